# SPDX-License-Identifier: Apache-2.0
"""``triton_python_backend_utils`` outside of a server, as a model's own unit tests would use it."""

from __future__ import annotations

import ast
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import triton_python_backend_utils as pb_utils
from pyinfer.backends.python import _objects, utils

NUMERIC = [np.bool_, *(np.dtype(code) for code in ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])]


def test_top_level_module_offers_all_of_utils() -> None:
    assert pb_utils.__all__ == utils.__all__
    assert all(getattr(pb_utils, name) is getattr(utils, name) for name in utils.__all__)


def test_stub_names_what_the_compiled_module_has() -> None:
    body = ast.parse(Path(utils.__file__).with_name("_objects.pyi").read_text()).body
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    assert sorted([*classes, *functions], key=str) == sorted(_objects.__all__)
    for name, node in classes.items():
        written = {item.name for item in node.body if isinstance(item, ast.FunctionDef)} - {"__init__"}
        written |= {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}  # type: ignore[union-attr]
        written |= {ast.unparse(item.targets[0]) for item in node.body if isinstance(item, ast.Assign)}
        special = {"__dlpack__", "__dlpack_device__"}
        compiled = {item for item in vars(getattr(_objects, name)) if not item.startswith("_") or item in special}
        assert written == compiled


MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        responses = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            assert given is not None
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.negative(given.as_numpy()))]))
        return responses
"""


@pytest.mark.timeout(300)
def test_the_code_of_a_model_can_be_checked(tmp_path: Path) -> None:
    """It has types, for those who install it too: a package without the marker has none."""
    package = Path(pb_utils.__file__).parent
    assert package.joinpath("py.typed").is_file()
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "wrong.py").write_text(MODEL.replace('"INPUT0"', "0"))
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path / 'cache'}", "model.py", "wrong.py"]
    environment = {**os.environ, "MYPYPATH": str(package.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1 and errors[0].startswith("wrong.py:10: "), done.stdout + done.stderr
    assert 'incompatible type "int"; expected "str"' in errors[0]


@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
def test_numeric_tensor(dtype: Any) -> None:
    array = np.ones((2, 3), dtype=dtype)
    tensor = pb_utils.Tensor("x", array)
    assert tensor.name() == "x" and tensor.shape() == [2, 3] and tensor.is_cpu()
    assert tensor.as_numpy() is array
    number = tensor.triton_dtype()
    assert number == pb_utils.numpy_to_triton_type(dtype) and pb_utils.triton_to_numpy_type(number) == array.dtype.type
    shared = pb_utils.Tensor.from_dlpack("y", tensor)
    assert shared.triton_dtype() == number and np.shares_memory(shared.as_numpy(), array)
    assert pb_utils.Tensor.from_dlpack("z", tensor.to_dlpack()).as_numpy().tolist() == array.tolist()


@given(npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, max_dims=4, min_side=0)))
def test_any_array_is_taken_or_refused(array: np.ndarray[Any, Any]) -> None:
    try:
        tensor = pb_utils.Tensor("x", array)
    except pb_utils.TritonModelException:
        assert array.dtype.kind in "cmMUV" or array.dtype.itemsize > 8
        return
    taken = tensor.as_numpy()
    assert taken.shape == array.shape and taken.flags.c_contiguous and taken.dtype.isnative
    assert taken.tolist() == array.tolist() or array.dtype.kind == "f"


def test_not_contiguous_is_copied_in_order() -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3).T
    tensor = pb_utils.Tensor("x", array)
    assert tensor.as_numpy().flags.c_contiguous and tensor.as_numpy().tolist() == array.tolist()


def test_text_arrays_are_refused_as_by_triton() -> None:
    with pytest.raises(pb_utils.TritonModelException, match="Please use np.object_ instead"):
        pb_utils.Tensor("x", np.array(["a"]))
    assert pb_utils.Tensor("x", np.array([b"a"])).triton_dtype() == 13
    with pytest.raises(pb_utils.TritonModelException, match=r"needs a numpy.ndarray, found type 'list'"):
        pb_utils.Tensor("x", [1.0])  # type: ignore[arg-type]
    for make in (lambda: pb_utils.Tensor("", np.zeros(1)), lambda: pb_utils.Tensor.from_dlpack("", np.zeros(1))):
        with pytest.raises(pb_utils.TritonModelException, match="Tensor name cannot be an empty string"):
            make()


def test_strings_without_objects() -> None:
    array = np.array([["é", b"b"], [1, b""]], dtype=object)
    view = pb_utils.Tensor("x", array).bytes_view()
    assert view.shape == (2, 2) and len(view) == 4
    assert [view[index] for index in range(-4, 4)] == 2 * ["é".encode(), b"b", b"1", b""]
    data = bytes(view.data())
    assert [data[start:stop] for start, stop in view.spans().tolist()] == ["é".encode(), b"b", b"1", b""]
    array[0, 0] = "new"
    assert view[0] == "é".encode() and pb_utils.Tensor("x", array).bytes_view()[0] == b"new"
    assert view.numpy().tolist() == [["é".encode(), b"b"], [b"1", b""]]
    for index in (4, -5):
        with pytest.raises(IndexError, match="has 4 elements"):
            view[index]
    with pytest.raises(pb_utils.TritonModelException, match="no tensor of strings"):
        pb_utils.Tensor("x", np.zeros(1)).bytes_view()


@given(npst.arrays(np.object_, npst.array_shapes(min_dims=0, max_dims=3, min_side=0), elements=st.binary(max_size=9)))
def test_any_strings(array: np.ndarray[Any, Any]) -> None:
    tensor = pb_utils.Tensor("x", array)
    view = tensor.bytes_view()
    assert list(view.shape) == tensor.shape() == list(array.shape)
    assert view.numpy().tolist() == array.tolist() and len(view.spans()) == array.size


def test_strings_have_no_dlpack() -> None:
    tensor = pb_utils.Tensor("x", np.array([b"a"], dtype=object))
    with pytest.raises(pb_utils.TritonModelException, match="DLPack does not have support for string tensors"):
        tensor.to_dlpack()
    with pytest.raises(pb_utils.TritonModelException, match="Provided tensor is not supported"):
        pb_utils.Tensor.from_dlpack("x", object())


def test_bfloat16_travels_by_dlpack() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    tensor = pb_utils.Tensor("x", np.array([1.0, 2.0], dtype=ml_dtypes.bfloat16))
    assert tensor.triton_dtype() == 14
    assert tensor.as_numpy().tolist() == [0x3F80, 0x4000]
    with pytest.raises(RuntimeError):  # the capsule says bfloat16, which numpy does not know
        np.from_dlpack(tensor)
    again = pb_utils.Tensor.from_dlpack("y", tensor)
    assert again.triton_dtype() == 14 and again.as_numpy().tolist() == [0x3F80, 0x4000]


def test_request_made_by_hand() -> None:
    tensor = pb_utils.Tensor("A", np.zeros(1, np.float32))
    request = pb_utils.InferenceRequest(
        request_id="7",
        correlation_id="c",
        inputs=[tensor],
        requested_output_names=["B"],
        model_name="m",
        flags=pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START,
        timeout=5,
        parameters={"k": 1},
    )
    assert pb_utils.get_input_tensor_by_name(request, "A") is tensor
    assert pb_utils.get_input_tensor_by_name(request, "B") is None
    assert request.inputs() == [tensor]
    assert (request.request_id(), request.correlation_id(), request.flags(), request.timeout()) == ("7", "c", 1, 5)
    assert request.requested_output_names() == {"B"}
    assert json.loads(request.parameters()) == {"k": 1} and not request.is_cancelled()
    request.set_flags(2)
    assert request.flags() == 2
    request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_ALL)


def test_what_is_not_offered_says_so() -> None:
    request = pb_utils.InferenceRequest()
    with pytest.raises(pb_utils.TritonModelException, match="only inside the server"):
        request.exec()
    with pytest.raises(RuntimeError, match="no running event loop"):
        request.async_exec()
    with pytest.raises(pb_utils.TritonModelException, match="trace must be an InferenceTrace"):
        pb_utils.InferenceRequest(trace=1)
    with pytest.raises(pb_utils.TritonModelException, match="made itself"):
        request.get_response_sender()
    with pytest.raises(pb_utils.TritonModelException, match="made itself"):
        request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
    request.set_release_flags(3)  # means nothing, as in Triton
    with pytest.raises(pb_utils.TritonModelException, match="only inside the server"):
        pb_utils.load_model("m")
    with pytest.raises(pb_utils.TritonModelException, match="files should be a dictionary"):
        pb_utils.load_model("m", files=5)  # type: ignore[arg-type]
    with pytest.raises(pb_utils.TritonModelException, match="only the code of a loaded model"):
        pb_utils.get_model_dir()
    assert not hasattr(pb_utils, "no_such_name")


def test_request_refuses_wrong_arguments() -> None:
    with pytest.raises(pb_utils.TritonModelException, match="Correlation ID must be integer or string"):
        pb_utils.InferenceRequest(correlation_id=1.5)  # type: ignore[arg-type]
    with pytest.raises(pb_utils.TritonModelException, match="found type 'ndarray'"):
        pb_utils.InferenceRequest(inputs=[np.zeros(1)])  # type: ignore[list-item]
    with pytest.raises(pb_utils.TritonModelException, match="values to have type"):
        pb_utils.InferenceRequest(parameters={"k": []})  # type: ignore[dict-item]


def test_response() -> None:
    tensor = pb_utils.Tensor("A", np.zeros(1, np.float32))
    response = pb_utils.InferenceResponse([tensor], parameters={"k": True})
    assert response.output_tensors() == [tensor] and not response.has_error() and response.error() is None
    assert pb_utils.get_output_tensor_by_name(response, "A") is tensor
    assert pb_utils.get_output_tensor_by_name(response, "B") is None
    assert json.loads(response.parameters()) == {"k": True}
    failed = pb_utils.InferenceResponse(error=pb_utils.TritonError("no", pb_utils.TritonError.NOT_FOUND))
    error = failed.error()
    assert failed.has_error() and error is not None and (error.message(), error.code()) == ("no", 2)
    assert pb_utils.TritonError("x").code() is pb_utils.TritonError.INTERNAL
    assert error.code().name == "NOT_FOUND"
    with pytest.raises(pb_utils.TritonModelException, match="unknown error code 99"):
        pb_utils.TritonError("x", 99)
    with pytest.raises(TypeError):
        pb_utils.InferenceResponse(error="text")  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_bytes_round_trip(elements: list[bytes]) -> None:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    data = pb_utils.serialize_byte_tensor(array)
    assert data is not None
    assert pb_utils.deserialize_bytes_tensor(data).tolist() == elements


def test_bytes_are_converted_and_checked() -> None:
    assert pb_utils.serialize_byte_tensor(np.array(["é", 1], dtype=object)) == b"\x02\0\0\0\xc3\xa9\x01\0\0\x001"
    assert pb_utils.serialize_byte_tensor(np.zeros(1)) is None
    for broken in (b"\x01", b"\x02\0\0\0a", b"\xff\xff\xff\xff"):
        with pytest.raises(ValueError, match="byte"):
            pb_utils.deserialize_bytes_tensor(broken)


def test_types() -> None:
    assert pb_utils.triton_string_to_numpy("TYPE_FP32") is np.float32
    assert pb_utils.triton_string_to_numpy("TYPE_STRING") is np.object_
    assert pb_utils.numpy_to_triton_type(np.float32) == 11 and pb_utils.numpy_to_triton_type(np.bytes_) == 13
    assert pb_utils.triton_to_numpy_type(13) is np.object_ and pb_utils.triton_to_numpy_type(14) is None
    assert pb_utils.numpy_to_triton_type(np.complex64) is None


def test_numbers_are_tritons() -> None:
    assert [int(level) for level in pb_utils.Logger.LogLevel] == [0, 1, 2, 3]
    assert pb_utils.TRITONSERVER_MEMORY_GPU == 0 and pb_utils.TRITONSERVER_MEMORY_CPU == 1
    assert [int(getattr(pb_utils.TritonError, code.name)) for code in _objects.ErrorCode] == list(range(8))


def test_config_helpers() -> None:
    config = {"input": [{"name": "A"}], "output": [{"name": "B"}], "model_transaction_policy": {"decoupled": True}}
    assert pb_utils.get_input_config_by_name(config, "A") == {"name": "A"}
    assert pb_utils.get_output_config_by_name(config, "B") == {"name": "B"}
    assert pb_utils.get_input_config_by_name(config, "B") is None
    assert pb_utils.get_output_config_by_name({}, "B") is None
    assert pb_utils.using_decoupled_model_transaction_policy(config)
    assert not pb_utils.using_decoupled_model_transaction_policy({})


def test_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="pyinfer.model"):
        pb_utils.Logger.log("plain 100%")
        pb_utils.Logger.log("w", pb_utils.Logger.WARNING)
        pb_utils.Logger.log_info("i")
        pb_utils.Logger.log_warn("w")
        pb_utils.Logger.log_error("e")
        pb_utils.Logger.log_verbose("v")
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert levels[0] == ("INFO", "plain 100%")
    assert [level for level, _ in levels[1:]] == ["WARNING", "INFO", "WARNING", "ERROR", "DEBUG"]


def test_model_config_completes() -> None:
    config = pb_utils.ModelConfig(json.dumps({"name": "m", "input": [{"name": "A", "dims": []}]}))
    config.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": [4]})
    config.add_input({"name": "B", "data_type": "TYPE_FP32", "dims": [4], "optional": True})
    config.add_output({"name": "C", "data_type": "TYPE_FP32", "dims": [4]})
    config.set_max_batch_size(8)
    config.set_dynamic_batching()
    config.set_model_transaction_policy({"decoupled": False})
    assert config.as_dict() == {
        "name": "m",
        "max_batch_size": 8,
        "input": [
            {"name": "A", "data_type": "TYPE_FP32", "dims": [4]},
            {"name": "B", "data_type": "TYPE_FP32", "dims": [4], "optional": True},
        ],
        "output": [{"name": "C", "data_type": "TYPE_FP32", "dims": [4]}],
        "dynamic_batching": {},
        "model_transaction_policy": {"decoupled": False},
    }


GIVEN = {
    "name": "m",
    "max_batch_size": 8,
    "input": [{"name": "A", "data_type": "TYPE_FP32", "dims": [4], "optional": True}],
    "sequence_batching": {},
    "model_transaction_policy": {"decoupled": True},
}


@pytest.mark.parametrize(
    ("setter", "argument", "expected"),
    [
        ("set_max_batch_size", 4, "configuration specified max_batch_size 8, but .* specified max_batch_size 4"),
        ("set_model_transaction_policy", {"decoupled": False}, "already set to 'True'"),
        ("set_model_transaction_policy", {"other": 1}, "property other than 'decoupled'"),
        ("add_input", {"name": "A", "data_type": "TYPE_INT8", "dims": [4]}, "TYPE_FP32 for input 'A', .* TYPE_INT8"),
        ("add_input", {"name": "A", "data_type": "TYPE_FP32", "dims": [5]}, r"expects dims \[5\] .* dims \[4\]"),
        ("add_input", {"data_type": "TYPE_FP32", "dims": [5]}, "input in .* is missing 'name' property"),
        ("add_input", {"name": "B", "dims": [5]}, "input 'B' in .* is missing 'data_type' property"),
        ("add_output", {"name": "B", "data_type": "TYPE_FP32"}, "output 'B' in .* is missing 'dims' property"),
        ("add_output", {"name": "B", "optional": True}, "other than 'name', 'data_type' and 'dims'"),
    ],
)
def test_model_config_refuses(setter: str, argument: Any, expected: str) -> None:
    config = pb_utils.ModelConfig(json.dumps(GIVEN))
    with pytest.raises(ValueError, match=expected):
        getattr(config, setter)(argument)


def test_model_config_keeps_the_scheduler() -> None:
    with pytest.raises(ValueError, match="scheduling_choice as 'sequence_batching'"):
        pb_utils.ModelConfig(json.dumps(GIVEN)).set_dynamic_batching()
