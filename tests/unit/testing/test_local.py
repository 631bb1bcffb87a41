# SPDX-License-Identifier: Apache-2.0
"""``pyinfer.testing.load_model``: models in this process, with the engine and the backends of the server."""

from __future__ import annotations

import bdb
import gc
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contract.calls.callers import source
from contract.conftest import add_model, identity
from pyinfer.errors import ConfigError, InvalidArgument
from pyinfer.testing import InferError, LocalModel, load_model
from waiting import eventually

DECOUPLED = " model_transaction_policy { decoupled: true }"
DOUBLE = """
import numpy as np
import triton_python_backend_utils as pb_utils

sizes = []


class TritonPythonModel:
    def initialize(self, args):
        self.place = args["model_repository"]

    def execute(self, requests):
        sizes.append(len(requests))
        responses = []
        for request in requests:
            array = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            if (array < 0).any():
                error = pb_utils.TritonError("not for me", pb_utils.TritonError.UNSUPPORTED)
                responses.append(pb_utils.InferenceResponse(error=error))
                continue
            if (array == 13).any():
                raise ValueError("unlucky")
            out = pb_utils.Tensor("OUTPUT0", array * 2)
            responses.append(pb_utils.InferenceResponse([out], parameters={"flags": request.flags()}))
        return responses
"""
REPEAT = """
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for value in request.inputs()[0].as_numpy().ravel():
                if value == 13:
                    sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("unlucky")))
                    continue
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.full((1, 1), value))]))
            sender.send(flags=FINAL)
"""


def python(datatype: str = "TYPE_FP32", *more: str) -> str:
    return " ".join([identity(datatype, "-1").replace('"identity"', '"python"'), *more])


@pytest.fixture
def double(tmp_path: Path) -> LocalModel:
    return load_model(add_model(tmp_path, "double", python(), {"model.py": DOUBLE}))


def test_arrays_in_and_out(double: LocalModel) -> None:
    with double:
        answer = double.infer({"INPUT0": np.array([[1, 2.5]], np.float32)}, sequence_id=7, sequence_start=True)
        assert answer["OUTPUT0"].tolist() == [[2, 5]] and answer["OUTPUT0"].dtype == np.float32
        assert answer.parameters == {"flags": 1}
        assert double.infer({"INPUT0": [[3]]})["OUTPUT0"].tolist() == [[6]]  # as the configuration says: FP32
        assert double.config["max_batch_size"] == 8


def test_errors_have_the_text_and_the_code_of_the_server(double: LocalModel) -> None:
    with double:
        cases: list[tuple[dict[str, object], str, str]] = [
            ({"INPUT0": [[-1]]}, "UNSUPPORTED", "not for me"),
            (
                {"INPUT0": [[13]]},
                "INTERNAL",
                "Failed to process the request(s) for model 'double_0_0', message: ValueError: unlucky",
            ),
            (
                {"INPUT1": [[1.0]]},
                "INVALID_ARG",
                "unexpected inference input 'INPUT1' for model 'double'",
            ),
            (
                {"INPUT0": np.zeros((1, 1), np.int64)},
                "INVALID_ARG",
                (
                    "[request id: <id_unknown>] inference input 'INPUT0' data-type is 'INT64', but model 'double' "
                    "expects 'FP32'"
                ),
            ),
        ]
        for inputs, code, text in cases:
            with pytest.raises(InferError) as caught:
                double.infer(inputs)  # type: ignore[arg-type]
            assert (caught.value.code, str(caught.value)) == (code, text)
        with pytest.raises(InferError, match=r"version 7 is not found") as caught:
            double.infer({"INPUT0": [[1]]}, version=7)
        assert caught.value.code == "NOT_FOUND"
        with pytest.raises(TypeError, match="which no Triton data type holds"):
            double.infer({"INPUT0": np.zeros((1, 1), np.complex64)})
        with pytest.raises(TypeError, match="unexpected keyword"):
            double.infer({"INPUT0": [[1]]}, timeout=1)  # type: ignore[call-arg]


def test_a_batch_is_one_call_of_execute(double: LocalModel) -> None:
    with double:
        answers = double.infer_batch([{"INPUT0": [[float(value)]]} for value in range(8)])
        assert [answer["OUTPUT0"].item() for answer in answers] == [0, 2, 4, 6, 8, 10, 12, 14]
        (module,) = [each for name, each in sys.modules.items() if name.startswith("pyinfer_model_double")]
        assert module.sizes == [8]
        assert double.infer_batch([]) == []
        with pytest.raises(TypeError, match="which no Triton data type holds"):
            double.infer_batch([{"INPUT0": [[1]]}, {"INPUT0": np.zeros((1, 1), np.complex64)}])
        assert double.infer({"INPUT0": [[4]]})["OUTPUT0"].item() == 8
        assert module.sizes == [8, 1], "none of those that were refused together was queued"


def test_texts_and_bits(tmp_path: Path) -> None:
    add_model(tmp_path, "bits", identity("TYPE_BF16", "-1"))
    with load_model(add_model(tmp_path, "text", identity("TYPE_STRING", "-1")), tmp_path / "bits") as text:
        for given in ([["é", b"b"]], np.array([["é", "b"]]), np.array([["é".encode(), b"b"]], object)):
            assert text.infer({"INPUT0": given})["OUTPUT0"].tolist() == [["é".encode(), b"b"]]
        bits = np.array([[0x3F80, 0x4000]], np.uint16)
        assert text.other("bits").infer({"INPUT0": bits})["OUTPUT0"].tolist() == bits.tolist()


def test_responses_of_a_decoupled_model(tmp_path: Path) -> None:
    with load_model(add_model(tmp_path, "repeat", python("TYPE_FP32", DECOUPLED), {"model.py": REPEAT})) as model:
        assert [answer["OUTPUT0"].item() for answer in model.stream({"INPUT0": [[1, 2]]})] == [1, 2]
        assert list(model.stream({"INPUT0": np.zeros((1, 0), np.float32)})) == []
        stream = model.stream({"INPUT0": [[5, 13, 6]]})
        assert next(stream)["OUTPUT0"].item() == 5
        with pytest.raises(InferError, match="unlucky"):
            next(stream)
        assert next(stream)["OUTPUT0"].item() == 6
        with pytest.raises(ValueError, match=r"use stream\(\)"):
            model.infer({"INPUT0": [[1]]})
        stream.cancel()


STRINGS = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "STRINGS")
            view = given.bytes_view()
            assert given.bytes_view() is view  # nobody has asked for objects
            if view[0] == b"change":
                given.as_numpy()[0] = "changed"
                assert given.bytes_view()[0] == b"changed" and view[0] == b"change"
            responses.append(pb_utils.InferenceResponse([given]))
        return responses
"""


def test_strings_are_passed_on_without_objects(tmp_path: Path) -> None:
    config = identity("TYPE_STRING", "-1", batch=0).replace("INPUT0", "STRINGS").replace("OUTPUT0", "STRINGS")
    config = config.replace('"identity"', '"python"').replace("dynamic_batching { }", "")
    with load_model(add_model(tmp_path, "strings", config, {"model.py": STRINGS})) as model:
        texts = [b"", b"x" * 70_000, b"\0\xff"]
        assert model.infer({"STRINGS": np.array(texts, object)})["STRINGS"].tolist() == texts
        assert model.infer({"STRINGS": ["change", "b"]})["STRINGS"].tolist() == [b"changed", b"b"]


def test_models_that_call_each_other(tmp_path: Path) -> None:
    paths = [add_model(tmp_path / name, name, python(), {"model.py": source(name)}) for name in ("chain", "double")]
    with load_model(*paths) as chain:
        assert chain.infer({"INPUT0": [[1]]})["OUTPUT0"].tolist() == [[4]]
        assert chain.other("double").infer({"INPUT0": [[1]]})["OUTPUT0"].tolist() == [[2]]


def test_processes_and_other_configurations(tmp_path: Path) -> None:
    isolated = 'parameters { key: "ISOLATION" value { string_value: "process" } }'
    directory = add_model(tmp_path, "double", python("TYPE_FP32", isolated), {"model.py": DOUBLE})
    with load_model(directory) as model:  # in this process all the same
        model.infer({"INPUT0": [[1]]})
        assert [name for name in sys.modules if name.startswith("pyinfer_model_double")]
        with pytest.raises(InferError, match="must be <= 8"):
            model.infer({"INPUT0": [[1]] * 9})
        config = model.config | {"max_batch_size": 16}
    with load_model(directory, config=config) as model:
        assert len(model.infer({"INPUT0": [[1]] * 9})["OUTPUT0"]) == 9


@pytest.mark.parametrize(
    ("files", "config", "kind", "text"),
    [
        ({"model.py": "raise OSError('no')"}, python(), InvalidArgument, "can not be imported: OSError: no"),
        ({}, "max_batch_size: -", ConfigError, "double/config.pbtxt:1"),
        (
            {"model.py": DOUBLE},
            python("TYPE_FP32", 'parameters { key: "ISOLATION" }').replace("FP32", "FP33"),
            ConfigError,
            "double/config.pbtxt",
        ),
    ],
)
def test_what_can_not_be_loaded(
    tmp_path: Path, files: dict[str, str], config: str, kind: type[Exception], text: str
) -> None:
    threads = threading.active_count()
    with pytest.raises(kind, match=text):
        load_model(add_model(tmp_path, "double", config, files))
    with pytest.raises(InvalidArgument, match="there is no model directory"):
        load_model(tmp_path / "nobody")
    eventually(lambda: threading.active_count() <= threads, f"threads are left: {threading.enumerate()}")


def test_what_nobody_refers_to_is_ended(tmp_path: Path) -> None:
    double = load_model(add_model(tmp_path, "double", python(), {"model.py": DOUBLE}))
    names = {thread.name for thread in threading.enumerate()}
    assert "double_0_0" in names
    stream = double.stream({"INPUT0": [[1]]})
    assert next(stream)["OUTPUT0"].item() == 2
    del double, stream
    gc.collect()
    eventually(lambda: "double_0_0" not in {thread.name for thread in threading.enumerate()}, "the model lives on")


def test_breakpoint_stops_in_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    class Debugger(bdb.Bdb):
        def user_line(self, frame: object) -> None:
            seen.append(frame.f_locals["array"].tolist())  # type: ignore[attr-defined]
            self.set_continue()

    stop: Callable[[], None] = lambda: Debugger().set_trace(sys._getframe(1))  # noqa: E731
    monkeypatch.setattr(sys, "breakpointhook", stop)
    text = DOUBLE.replace("if (array < 0)", "breakpoint()\n            if (array < 0)")
    with load_model(add_model(tmp_path, "double", python(), {"model.py": text})) as model:
        assert model.infer({"INPUT0": [[4]]})["OUTPUT0"].tolist() == [[8]]
    assert seen == [[[4.0]]]
