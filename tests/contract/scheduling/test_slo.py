# SPDX-License-Identifier: Apache-2.0
"""A model with a latency SLO over both protocols: what is shed or given up says so at once, and is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity
from contract.scheduling.test_queue_policy import GATE, Client
from faults.guard import counter
from pyinfer.testing import run_server
from waiting import eventually

SLO = 'parameters {{ key: "latency_slo_ms" value: {{ string_value: "{}" }} }}'


def config(slo: str, backend: str = "python") -> str:
    plain = identity("TYPE_FP32", "1").replace('"identity"', f'"{backend}"').replace("dynamic_batching { }", "")
    return plain + SLO.format(slo)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_what_can_not_be_in_time_is_refused(protocol: str, tmp_path: Path) -> None:
    folder = add_model(tmp_path, "gate", config("500"), {"model.py": GATE})
    with run_server(tmp_path) as server:
        client = Client(server, protocol)
        try:
            first = client.send("gate", 0)
            eventually((folder / "order").exists, "the model began")
            # The instance is busy: these wait for as long as the SLO allows.
            for waiting in [client.send("gate", value) for value in (1, 2, 3)]:
                error = waiting.exception(timeout=60)
                assert isinstance(error, InferenceServerException)
                assert "Request timeout expired" in str(error)
            (folder / "open").touch()
            assert first.result(timeout=60) == 0  # late, but it had begun
            eventually(lambda: counter(server, "pyinfer_slo_batch_rows", "gate") == 1, "the execution is known")
            # Now it is known that executions take longer than the SLO.
            (folder / "open").unlink()
            (folder / "order").unlink()
            second = client.send("gate", 0)  # an idle model runs what comes
            eventually((folder / "order").exists, "the model began")
            error = client.send("gate", 4).exception(timeout=60)
            assert isinstance(error, InferenceServerException)
            assert (
                "model 'gate' is over capacity: the request can not be answered within the latency SLO of 500 ms"
                in str(error)
            )
        finally:
            (folder / "open").touch()
        assert second.result(timeout=60) == 0
        assert (folder / "order").read_text().split() == ["0"]
        assert counter(server, "pyinfer_slo_shed_total", "gate") == 1
        assert counter(server, "pyinfer_slo_given_up_total", "gate") == 3
        assert counter(server, "nv_inference_request_failure", "gate", reason="REJECTED") == 4
        assert counter(server, "pyinfer_slo_execution_seconds", "gate", rows="1") >= 0
        with grpc_client.InferenceServerClient(server.grpc) as statistics:
            seen = statistics.get_inference_statistics("gate", as_json=True)["model_stats"][0]["inference_stats"]
        assert (seen["success"]["count"], seen["fail"]["count"]) == ("2", "4")


def test_requests_are_batched_without_dynamic_batching(tmp_path: Path) -> None:
    """All answers are right, whatever batches are formed while sizes are learned."""
    add_model(tmp_path, "plain", config("60000", "identity"))
    with run_server(tmp_path) as server:
        client = Client(server, "grpc")
        calls = [client.send("plain", value) for value in range(200)]
        assert [call.result(timeout=60) for call in calls] == list(range(200))
        assert counter(server, "pyinfer_slo_shed_total", "plain") == 0
        assert counter(server, "nv_inference_request_success", "plain") == 200


BAD = [
    ("0", "", "must be milliseconds, a number above 0 and at most 3600000 with up to 3 decimals, got '0'"),
    ("fast", "", "got 'fast'"),
    ("50", "dynamic_batching { max_queue_delay_microseconds: 100 }", "can not have 'max_queue_delay_microseconds'"),
    ("50", "sequence_batching { }", "can not be used with sequence_batching"),
]


def test_a_configuration_that_contradicts_itself_is_not_served(tmp_path: Path) -> None:
    for number, (slo, more, _) in enumerate(BAD):
        add_model(tmp_path, f"bad{number}", config(slo, "identity") + more)
    add_model(tmp_path, "good", config("50.5", "identity"))
    with run_server(tmp_path, "--exit-on-error=false") as server:
        index = http_client.InferenceServerClient(server.http).get_model_repository_index()
        states: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in index}
        assert states["good"]["state"] == "READY"
        for number, (_, _, said) in enumerate(BAD):
            assert states[f"bad{number}"]["state"] == "UNAVAILABLE"
            assert said in states[f"bad{number}"]["reason"]


def test_models_without_slo_have_none_of_its_metrics(tmp_path: Path) -> None:
    add_model(tmp_path, "plain", identity("TYPE_FP32", "1"))
    with run_server(tmp_path) as server:
        assert Client(server, "http").send("plain", 1).result(timeout=60) == 1
        with pytest.raises(AssertionError, match="no metric pyinfer_slo_shed_total"):
            counter(server, "pyinfer_slo_shed_total", "plain")
