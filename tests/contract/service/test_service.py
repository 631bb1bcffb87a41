# SPDX-License-Identifier: Apache-2.0
"""Health, metadata, configuration and statistics: the fields and texts that both protocols show."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contract.service.conftest import IDENTITY, Bench, Client, told
from pyinfer import __version__
from pyinfer.errors import InvalidArgument, ModelError, NotFound, Unavailable
from pyinfer.service import EXTENSIONS, Service, parse_version


def _text(call: Callable[[], object], kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


def test_server_metadata(bench: Bench) -> None:
    assert bench.make(server_id="mine").server_metadata() == {
        "name": "mine",
        "version": __version__,
        "extensions": list(EXTENSIONS),
    }
    assert bench.make().server_metadata()["name"] == "triton"


def test_a_life(bench: Bench) -> None:
    bench.write("m")
    service = bench.make()
    assert service.live()
    assert not service.ready()
    assert service.start() == []
    assert service.ready()
    service.begin_stop()
    calls: list[Callable[[], object]] = [
        service.live,
        service.ready,
        service.repository_index,
        lambda: service.model_ready("m"),
        lambda: service.load_model("m"),
        lambda: service.unload_model("m"),
    ]
    for call in calls:
        assert _text(call, Unavailable) == "Server exiting"
    assert service.stop(60)
    assert service.stop(60)


@pytest.mark.parametrize(("strict", "ready"), [(True, False), (False, True)])
def test_strict_readiness(bench: Bench, strict: bool, ready: bool) -> None:
    bench.write("good")
    bench.write("bad", IDENTITY.replace('"identity"', '"python"'))
    service = bench.make(strict_readiness=strict)
    assert len(service.start()) == 1
    assert service.ready() is ready
    assert service.model_ready("good")
    bench.write("bad")
    service.load_model("bad")
    assert service.ready()
    service.unload_model("bad")
    assert service.ready(), "an unloaded model is no reason not to be ready"
    bench.write("unreadable", "nonsense")
    with pytest.raises(ModelError):
        service.load_model("unreadable")
    assert service.ready(), "nor is one whose configuration was never read"
    bench.write("empty", versions=())
    with pytest.raises(InvalidArgument, match="at least one version must be available"):
        service.load_model("empty")
    assert service.ready() is not strict, "but one that has no version is"


def test_model_readiness(bench: Bench) -> None:
    bench.write("m", versions=(1, 3))
    service = bench.start()
    assert service.model_ready("m")
    assert service.model_ready("m", "3")
    assert _text(lambda: service.model_ready("m", "1"), NotFound) == (
        "Request for unknown model: 'm' version 1 is not found"
    )
    assert _text(lambda: service.model_ready("x"), NotFound) == "Request for unknown model: 'x' is not found"
    service.unload_model("m")
    assert not service.model_ready("m")
    assert not service.model_ready("m", "3")


def test_metadata_of_a_batching_model(bench: Bench) -> None:
    bench.write("m", 'version_policy { all { } } platform: "p" ' + IDENTITY, versions=(2, 10))
    service = bench.start()
    tensors = {"inputs": "INPUT0", "outputs": "OUTPUT0"}
    expected = {key: [{"name": name, "datatype": "FP32", "shape": [-1, -1]}] for key, name in tensors.items()}
    assert service.model_metadata("m") == {"name": "m", "versions": ["2", "10"], "platform": "p", **expected}
    assert service.model_metadata("m", "2")["versions"] == ["2"]


def test_metadata_without_batching(bench: Bench) -> None:
    config = (
        'backend: "identity" input [ { name: "I" data_type: TYPE_STRING dims: [ 2, -1 ] } ] '
        'output [ { name: "O" data_type: TYPE_STRING dims: [ 2, -1 ] } ]'
    )
    bench.write("m", config)
    metadata = bench.start().model_metadata("m")
    assert metadata["platform"] == "identity"
    assert metadata["inputs"] == [{"name": "I", "datatype": "BYTES", "shape": [2, -1]}]
    assert metadata["outputs"] == [{"name": "O", "datatype": "BYTES", "shape": [2, -1]}]


def test_configuration_is_complete(bench: Bench) -> None:
    bench.write("m")
    config = bench.start().model_config("m", "1")
    assert config["name"] == "m"
    assert config["backend"] == "identity"
    assert config["max_batch_size"] == 8
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    assert config["dynamic_batching"]["preferred_batch_size"] == [8]
    assert [(group["name"], group["count"], group["kind"]) for group in config["instance_group"]] == [
        ("m_0", 2, "KIND_CPU")
    ]


@pytest.mark.parametrize("ask", [Service.model_metadata, Service.model_config])
def test_unknown_and_unavailable_models(bench: Bench, ask: Callable[..., object]) -> None:
    bench.write("m")
    service = bench.start()
    assert _text(lambda: ask(service, "x"), NotFound) == "Request for unknown model: 'x' is not found"
    assert _text(lambda: ask(service, "m", "7"), NotFound) == "Request for unknown model: 'm' version 7 is not found"
    service.unload_model("m")
    assert _text(lambda: ask(service, "m"), NotFound) == "Request for unknown model: 'm' has no available versions"
    assert _text(lambda: ask(service, "m", "1"), Unavailable) == (
        "Request for unknown model: 'm' version 1 is not at ready state"
    )


@pytest.mark.parametrize(("text", "version"), [("", None), ("0", 0), ("1", 1), ("007", 7), (str(2**63 - 1), 2**63 - 1)])
def test_versions(text: str, version: int | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["-1", "1e3", "1.0", "v1", " 1", "١", "\0"])
def test_bad_versions(bench: Bench, client: Client, text: str) -> None:
    bench.write("m")
    service = bench.start()
    hint = "(version must be a non-negative integer)"
    expected = f"failed to get model version from specified version string '{text[:64]}' {hint}"
    for ask in (service.model_ready, service.model_metadata, service.model_config, service.statistics):
        assert _text(lambda ask=ask: ask("m", text), InvalidArgument) == expected  # type: ignore[misc]
    if text.isprintable():
        assert client.infer("m", [1.0], text) == (400, {"error": expected})


@pytest.mark.parametrize("text", [str(2**63), "1" + "0" * 300, "9" * 5000])
def test_versions_that_no_model_can_have(bench: Bench, client: Client, text: str) -> None:
    bench.write("m")
    service = bench.start()
    expected = f"Request for unknown model: version {text[:64]} is not found"
    for ask in (service.model_ready, service.model_metadata, service.model_config, service.statistics):
        assert _text(lambda ask=ask: ask("m", text), NotFound) == expected  # type: ignore[misc]
    assert client.infer("m", [1.0], text) == (404, {"error": expected})


def test_version_zero_is_a_version(bench: Bench) -> None:
    bench.write("m", versions=(0,))
    service = bench.start()
    assert service.model_metadata("m", "0")["versions"] == ["0"]
    assert _text(lambda: service.model_config("m", "1"), NotFound).endswith("version 1 is not found")


def test_statistics(bench: Bench, client: Client) -> None:
    bench.write("m", "version_policy { all { } } " + IDENTITY, versions=(1, 2))
    bench.write("n")
    service = bench.start()
    for _ in range(3):
        status, body = client.infer("m", [1.0, 2.0])
        assert (status, body["outputs"][0]["data"]) == (200, [1.0, 2.0])
    stats = told(service)
    assert [(entry["name"], int(entry["version"])) for entry in stats] == [("m", 1), ("m", 2), ("n", 1)]
    assert [entry["inference_count"] for entry in stats] == [0, 3, 0]
    assert stats[1]["inference_stats"]["success"]["count"] == 3
    assert len(told(service, "m")) == 2
    assert [entry["inference_count"] for entry in told(service, "m", "2")] == [3]


def test_statistics_of_what_is_not_ready(bench: Bench) -> None:
    bench.write("m")
    service = bench.start()
    assert _text(lambda: service.statistics("x"), InvalidArgument) == "requested model 'x' is not available"
    assert _text(lambda: service.statistics("m", "7"), InvalidArgument) == (
        "requested model version is not available for model 'm'"
    )
    service.unload_model("m")
    assert _text(lambda: service.statistics("m"), InvalidArgument) == "requested model 'm' is not available"
    assert told(service) == []


def test_metrics_of_the_real_core(bench: Bench, client: Client) -> None:
    bench.write("m", IDENTITY + ' metric_tags { key: "team" value: "a \\"b\\"" }')
    service = bench.start()
    client.infer("m", [1.0])
    assert client.infer("m", [])[0] == 200
    lines = service.metrics().decode().splitlines()
    labels = '{_team="a \\"b\\"",model="m",version="1"'
    assert f"nv_inference_request_success{labels}}} 2" in lines
    assert f"nv_inference_pending_request_count{labels}}} 0" in lines
    for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER"):
        failures = f'nv_inference_request_failure{{_team="a \\"b\\"",model="m",reason="{reason}",version="1"}} 0'
        assert failures in lines
