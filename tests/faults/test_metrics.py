# SPDX-License-Identifier: Apache-2.0
"""Row 70: the metrics stay a valid page while they are polled under load, while models come and go, whatever labels."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
from collections.abc import Generator, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract.conftest import add_model, identity
from contract.http.raw import Raw, post
from faults.client import document, tensor
from faults.guard import counter
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

TAGS = {"team": 'a "b"\nc\\', "my-key": "{},=#", "__x": "\u2028 \r"}
WEIRD = 'we"ird {x="1"} 1'
FLAGS = ("--metrics-config=summary_latencies=true", "--metrics-config=histogram_latencies=true")


def tagged(config: str) -> str:
    return config + "".join(f" metric_tags {{ key: {json.dumps(k)} value: {json.dumps(v)} }}" for k, v in TAGS.items())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("metrics")
    config = identity("TYPE_FP32", "-1")
    add_model(repository, "tagged", tagged(config))
    add_model(repository, WEIRD, config)
    for number in range(3):
        add_model(repository, f"comes_and_goes_{number}", tagged(config))
    with run_server(repository, *FLAGS, "--model-control-mode=explicit", "--load-model=tagged") as running:
        yield running


def pages(server: RunningServer, stop: threading.Event) -> Generator[str, None, None]:
    """The page again and again, every 10 ms, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.metrics_port, timeout=60)
    with contextlib.closing(connection):
        while not stop.wait(0.01):
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            assert (response.status, response.getheader("content-type")) == (200, "text/plain; charset=utf-8")
            yield response.read().decode()


def page_of(server: RunningServer) -> str:
    """One page."""
    with contextlib.closing(pages(server, threading.Event())) as made:
        return next(made)


def check(page: str) -> dict[str, set[str]]:
    """The models of each family; a sample twice, or one that can not be read, fails."""
    models: dict[str, set[str]] = {}
    seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in seen, key
            seen.add(key)
            models.setdefault(family.name, set()).add(sample.labels.get("model", ""))
    return models


def control(raw: Raw, model: str, action: str) -> int:
    name = "".join(f"%{byte:02X}" for byte in model.encode())
    return raw.send(post(f"/v2/repository/models/{name}/{action}", b"{}")).receive().status


def test_row_70_a_model_of_any_name_is_labelled_with_it(server: RunningServer) -> None:
    with Raw(server.http_port, timeout_s=60) as raw:
        assert control(raw, WEIRD, "load") == 200
        page = page_of(server)
        assert WEIRD in check(page)["nv_inference_count"]
        assert control(raw, WEIRD, "unload") == 200
    assert "we" not in "".join(check(page_of(server))["nv_inference_count"])


def test_row_70_tags_are_labels(server: RunningServer) -> None:
    page = page_of(server)
    [family] = [family for family in text_string_to_metric_families(page) if family.name == "nv_inference_count"]
    [labels] = [sample.labels for sample in family.samples if sample.labels["model"] == "tagged"]
    assert labels == {
        "model": "tagged",
        "version": "1",
        "_team": TAGS["team"],
        "_my_key": TAGS["my-key"],
        "_x": TAGS["__x"],
    }


def test_row_70_pages_are_valid_under_load_and_while_models_come_and_go(server: RunningServer) -> None:
    stop = threading.Event()
    checked: list[dict[str, set[str]]] = []
    errors: list[BaseException] = []
    answered = [0]

    def poll() -> None:
        try:
            checked.extend(check(page) for page in pages(server, stop))
        except BaseException as error:
            errors.append(error)

    def load() -> None:
        request = post("/v2/models/tagged/infer", document(tensor((1, 2), [1.0, 2.0])))
        try:
            with Raw(server.http_port, timeout_s=60) as raw:
                while not stop.is_set():
                    raw.send(request * 20)
                    for _ in range(20):
                        assert raw.receive().status == 200
                        answered[0] += 1
        except BaseException as error:
            errors.append(error)

    before = counter(server, "nv_inference_request_success", "tagged")
    threads = [threading.Thread(target=target) for target in (poll, poll, load)]
    for thread in threads:
        thread.start()
    with Raw(server.http_port, timeout_s=60) as raw:
        for turn in range(12):
            for number in range(3):
                action = "unload" if turn % 2 else "load"
                assert control(raw, f"comes_and_goes_{number}", action) == 200
    eventually(lambda: bool(errors) or len(checked) >= 30, "no pages")
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert all("tagged" in models["nv_inference_count"] for models in checked)
    assert any("comes_and_goes_0" in models["nv_inference_count"] for models in checked)
    assert counter(server, "nv_inference_request_success", "tagged") - before == answered[0]
    last = page_of(server)
    assert "comes_and_goes" not in last
    # the same number from three sides
    [count] = re.findall(r"pyinfer_request_duration_seconds_count\{.*\} (\d+)", last)
    [summed] = re.findall(r"nv_inference_request_summary_us_count\{.*\} (\d+)", last)
    assert int(count) == int(summed) == counter(server, "nv_inference_request_success", "tagged")


def test_row_70_the_quantiles_of_what_was_served_ascend(server: RunningServer) -> None:
    page = page_of(server)
    found = re.findall(r'nv_inference_request_summary_us\{.*quantile="([\d.]+)"\} (\d+)', page)
    assert [quantile for quantile, _ in found] == ["0.5", "0.9", "0.95", "0.99", "0.999"]
    values = [int(value) for _, value in found]
    assert values == sorted(values)
    assert values[0] > 0
