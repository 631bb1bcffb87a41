# SPDX-License-Identifier: Apache-2.0
"""Backends and the real core: what a model does, right or wrong, reaches the client as the contract says."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto

from contract.backends.harness import Harness
from pyinfer.backends.base import Backend, InstanceContext, ModelContext
from pyinfer.backends.onnxruntime import OnnxRuntimeBackend
from pyinfer.backends.python.backend import InProcessBackend
from unit.backends import models

Serve = Callable[..., Harness]


def config(data_type: str = "TYPE_FP32", dims: tuple[int, ...] = (2,)) -> dict[str, Any]:
    tensor = {"data_type": data_type, "dims": list(dims)}
    return {
        "max_batch_size": 8,
        "dynamic_batching": {},
        "input": [{"name": "A", **tensor}],
        "output": [{"name": "B", **tensor}],
    }


def request(*rows: list[Any], datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    shape = [len(rows), len(rows[0])]
    return {"inputs": [{"name": "A", "datatype": datatype, "shape": shape, "data": list(rows)}], **more}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    made: list[Any] = []

    def _serve(backend: type[Backend], settings: dict[str, Any], source: str | None = None) -> Harness:
        directory = tmp_path / "m"
        (directory / "1").mkdir(parents=True, exist_ok=True)
        if source is not None:
            (directory / "1" / "model.py").write_text(textwrap.dedent(source))
        loaded = backend(ModelContext("m", 1, directory, settings))
        harness = Harness(settings, loaded.make_instance(InstanceContext("m_0")))
        made.extend((harness, loaded))
        return harness

    yield _serve
    for each in made:
        each.close()


PYTHON = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                array = pb_utils.get_input_tensor_by_name(request, "A").as_numpy()
                {}
            return answers
"""
ECHO = 'answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("B", array)]))'


def test_python_echo(serve: Serve) -> None:
    harness = serve(InProcessBackend, config(), PYTHON.format(ECHO))
    answers = harness.infer(request([1.0, 2.0]), request([3.0, 4.0], [5.0, 6.0], id="x"))
    assert [status for status, _ in answers] == [200, 200]
    assert [body["outputs"][0]["data"] for _, body in answers] == [[1, 2], [3, 4, 5, 6]]
    assert answers[1][1]["id"] == "x" and answers[1][1]["outputs"][0]["shape"] == [2, 2]


def test_python_strings(serve: Serve) -> None:
    body = 'array[0, 0] = "é"; ' + ECHO
    harness = serve(InProcessBackend, config("TYPE_STRING"), PYTHON.format(body))
    ((status, answer),) = harness.infer(request(["a", "b"], datatype="BYTES"))
    assert status == 200 and answer["outputs"][0]["data"] == ["é", "b"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "raise ValueError('wrong')",
            "Failed to process the request(s) for model 'm_0', message: ValueError: wrong",
        ),
        ("pass", "InferenceRequest(s) size is:2, and InferenceResponse(s) size is:0"),
        (ECHO.replace('"B"', '"X"'), "X"),
        (ECHO.replace("array)", "array.astype(np.float64))"), "B"),
        (ECHO.replace("array)", "array[:, :1])"), "B"),
        ("answers.append(pb_utils.InferenceResponse([]))", "B"),
    ],
)
def test_python_mistakes_reach_the_client(serve: Serve, body: str, expected: str) -> None:
    harness = serve(InProcessBackend, config(), PYTHON.format(body))
    answers = harness.infer(request([1.0, 2.0]), request([3.0, 4.0]))
    assert len(answers) == 2
    for status, answer in answers:
        assert status >= 400 and expected in answer["error"]


def test_onnx_batch(serve: Serve, tmp_path: Path) -> None:
    models.write(tmp_path / "m", models.identity_model())
    harness = serve(OnnxRuntimeBackend, config())
    answers = harness.infer(*(request([float(n), -1.0]) for n in range(5)))
    assert [body["outputs"][0]["data"] for _, body in answers] == [[n, -1] for n in range(5)]


def test_onnx_strings(serve: Serve, tmp_path: Path) -> None:
    models.write(tmp_path / "m", models.identity_model(TensorProto.STRING))
    harness = serve(OnnxRuntimeBackend, config("TYPE_STRING"))
    answers = harness.infer(*(request([text, "x"], datatype="BYTES") for text in ("é", "")))
    assert [body["outputs"][0]["data"] for _, body in answers] == [["é", "x"], ["", "x"]]
