# SPDX-License-Identifier: Apache-2.0
"""What it costs a Python model to call three others, in this process: CPU time of all its threads.

A request to a model that makes three calls is compared with one to a model that makes none; the difference holds the
three executions. What an execution costs by itself is measured on one thread, where nobody is waited for.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["CallCosts", "measure_calls"]

_TURNS = 40
_REQUESTS = 50
_CONFIG = """
backend: "python" max_batch_size: 8 dynamic_batching { }
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
_HEAD = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            array = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
"""
_TAIL = """
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)]))
        return responses
"""
_CALLS = """
            for name in ("a", "b", "c"):
                call = pb_utils.InferenceRequest(
                    model_name=name,
                    requested_output_names=["OUTPUT0"],
                    inputs=[pb_utils.Tensor("INPUT0", array)],
                )
                array = pb_utils.get_output_tensor_by_name(call.exec(), "OUTPUT0").as_numpy()
"""


@dataclass(frozen=True)
class CallCosts:
    """Microseconds of CPU: of three calls with what they execute, and of three executions alone."""

    calls_us: float
    executions_us: float


def measure_calls() -> CallCosts:
    """Both loads take turns of milliseconds, so that what the machine does meanwhile meets both."""
    from pyinfer.testing import load_model

    tensor = {"INPUT0": np.zeros((1, 16), np.float32)}
    with tempfile.TemporaryDirectory(prefix="perf-") as folder:
        for name in ("chain", "a", "b", "c"):
            _write(Path(folder, name), _HEAD + (_CALLS if name == "chain" else "") + _TAIL)
        with load_model(*(Path(folder, name) for name in ("chain", "a", "b", "c"))) as chain:
            one = chain.other("a")
            taken = {True: 0.0, False: 0.0}
            for turn in range(2 * _TURNS + 2):
                model = chain if turn % 2 else one
                start = time.process_time()
                for _ in range(_REQUESTS):
                    model.infer(tensor)
                if turn > 1:  # the first ones warm up
                    taken[model is chain] += time.process_time() - start
        execution = _execution_us(Path(folder, "a"))
    return CallCosts(1e6 * (taken[True] - taken[False]) / (_TURNS * _REQUESTS), 3 * execution)


def _write(directory: Path, program: str) -> None:
    (directory / "1").mkdir(parents=True)
    (directory / "config.pbtxt").write_text(_CONFIG)
    (directory / "1" / "model.py").write_text(program)


def _execution_us(directory: Path) -> float:
    """Taking a request from the queue, executing and answering it, all on this thread."""
    from pyinfer import _core
    from pyinfer.backends.base import InstanceContext, ModelContext
    from pyinfer.backends.python.backend import InProcessBackend

    engine = _core.Engine()
    tensors = [_core.TensorSpec(name, "FP32", [-1]) for name in ("INPUT0", "OUTPUT0")]
    spec = _core.ModelSpec(name="a", version=1, inputs=tensors[:1], outputs=tensors[1:], max_batch_size=8)
    model = engine.create(spec)
    core = model.add_instance("a_0")
    engine.publish("a", [model])
    backend = InProcessBackend(ModelContext("a", 1, directory, {}))
    instance = backend.make_instance(InstanceContext("a_0"))
    array, taken = np.zeros((1, 16), np.float32), 0.0
    for turn in range(_TURNS * _REQUESTS + _REQUESTS):
        call = _core.ModelCall(engine, "a", -1, [("INPUT0", "FP32", array)])
        start = time.thread_time()
        batch = core.poll()
        assert batch is not None
        instance.execute(batch)
        batch.finish()
        if turn >= _REQUESTS:
            taken += time.thread_time() - start
        call.next()
    instance.close()
    backend.close()
    model.stop()
    return 1e6 * taken / (_TURNS * _REQUESTS)
