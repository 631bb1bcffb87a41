# SPDX-License-Identifier: Apache-2.0
"""Row 47: decoupled models that answer after their last response, never, or from threads while they are unloaded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from contract.conftest import add_model, identity, isolated
from faults.client import check_text, control, message
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
MODEL = """
import gc
import json
import threading
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def response(number):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([number], np.float32))])


def after_final(sender, note):
    sender.send(response(1), flags=FINAL)
    texts = []
    for flags in (0, FINAL):
        try:
            sender.send(response(2), flags=flags)
        except Exception as error:
            texts.append(str(error))
    Path(note + ".part").write_text(json.dumps(texts))
    Path(note + ".part").rename(note)


def until_told(sender, note):
    number = 0
    Path(note).touch()
    while not Path(note + ".enough").exists():
        sender.send(response(number))
        number += 1
        time.sleep(0.002)
    sender.send(response(number), flags=FINAL)


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            asked = json.loads(request.parameters())
            if asked["mode"] == "never":
                continue
            work = {"after final": after_final, "until told": until_told}[asked["mode"]]
            threading.Thread(target=work, args=(request.get_response_sender(), asked["note"])).start()
"""


@pytest.fixture(scope="module", params=["thread", "process"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, models: Path
) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("late")
    config = identity("TYPE_FP32", "1", batch=0).replace('"identity"', '"python"').replace("dynamic_batching { }", "")
    add_model(repository, "late", config + " model_transaction_policy { decoupled: true }", {"model.py": MODEL})
    flags = ("--model-control-mode=explicit", "--load-model=*", f"--model-repository={models}")
    with run_server(repository, *flags, isolated(request.param)) as running:
        yield running
        assert running.stop() == 0


pytestmark = pytest.mark.usefixtures("guarded")


def late(mode: str, note: Path) -> bytes:
    request = message("late", ("INPUT0", "FP32", [1]), raw=[bytes(4)])
    request.parameters["mode"].string_param = mode
    request.parameters["note"].string_param = str(note)
    return request.SerializeToString()


def talk(server: RunningServer, request: bytes) -> list[pb.ModelStreamInferResponse]:
    with grpc.insecure_channel(server.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.stream_stream(STREAM)(iter([request]), timeout=120)
        return [pb.ModelStreamInferResponse.FromString(data) for data in call]


def number(response: pb.ModelStreamInferResponse) -> float:
    return float(np.frombuffer(response.infer_response.raw_output_contents[0], "<f4")[0])


def test_row_47_responses_after_the_last(server: RunningServer, tmp_path: Path) -> None:
    note = tmp_path / "note"
    [only] = talk(server, late("after final", note))
    assert number(only) == 1
    assert only.infer_response.parameters["triton_final_response"].bool_param
    eventually(note.exists, "the model was not told")
    assert note.read_text().count("Unable to send response. Response sender has been closed.") == 2


def test_row_47_no_last_response(server: RunningServer, tmp_path: Path) -> None:
    [only] = talk(server, late("never", tmp_path / "note"))
    assert "'late'" in check_text(only.error_message)


def test_row_47_a_thread_that_answers_while_its_model_is_unloaded(server: RunningServer, tmp_path: Path) -> None:
    """What was accepted is answered to its end; then the model is gone, and comes back."""
    note = tmp_path / "note"
    answers: list[list[pb.ModelStreamInferResponse]] = []
    asking = threading.Thread(target=lambda: answers.append(talk(server, late("until told", note))))
    asking.start()
    eventually(note.exists, "the model was never called")
    statuses: list[int] = []
    unloading = threading.Thread(target=lambda: statuses.append(control(server, "late", "unload")))
    unloading.start()
    eventually(lambda: "last response" not in talk(server, late("never", note))[0].error_message, "it accepts requests")
    Path(f"{note}.enough").touch()
    asking.join()
    unloading.join()
    assert statuses == [200]
    [responses] = answers
    assert [number(response) for response in responses] == list(range(len(responses)))
    assert responses[-1].infer_response.parameters["triton_final_response"].bool_param
    assert control(server, "late", "load") == 200
    [again] = talk(server, late("after final", tmp_path / "again"))
    assert number(again) == 1
