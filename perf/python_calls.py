# SPDX-License-Identifier: Apache-2.0
"""What it costs a Python model to call three others, in this process: CPU time of all its threads.

A request to a model that makes three calls is compared with one to a model that makes none; the difference holds the
three executions. The callees are such as their caller's thread may execute; they are also measured where they say that
it may not (``EXECUTE_ON_ANY_THREAD``). What an execution costs by itself is measured on one thread, where nobody is
waited for.

All on one core, in turns of milliseconds. On two cores of a virtual machine the same calls cost up to twice as much in
some processes and not in others, with as many context switches, which says something of the machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
_OWN_THREAD = 'parameters { key: "EXECUTE_ON_ANY_THREAD" value { string_value: "no" } }'
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
            for name in CALLEES:
                call = pb_utils.InferenceRequest(
                    model_name=name,
                    requested_output_names=["OUTPUT0"],
                    inputs=[pb_utils.Tensor("INPUT0", array)],
                )
                array = pb_utils.get_output_tensor_by_name(call.exec(), "OUTPUT0").as_numpy()
"""


@dataclass(frozen=True)
class CallCosts:
    """Microseconds of CPU: of three calls with what they execute, by which threads, and of three executions alone."""

    calls_us: float
    own_threads_us: float
    executions_us: float


def measure_calls() -> CallCosts:
    """The loads take turns, so that what the machine does meanwhile meets all of them."""
    from pyinfer.testing import load_model

    tensor = {"INPUT0": np.zeros((1, 16), np.float32)}
    callees = {"chain": ["a", "b", "c"], "chain_own": ["a_own", "b_own", "c_own"]}
    with tempfile.TemporaryDirectory(prefix="perf-") as folder, _one_core():
        for chain, names in callees.items():
            _write(Path(folder, chain), _CONFIG, f"CALLEES = {names}\n{_HEAD}{_CALLS}{_TAIL}")
            for name in names:
                _write(Path(folder, name), _CONFIG + (_OWN_THREAD if "own" in name else ""), _HEAD + _TAIL)
        with (
            load_model(*(Path(folder, name) for chain, names in callees.items() for name in (chain, *names))) as model,
            _executing(Path(folder, "a")) as execute,
        ):
            loads = [model, model.other("chain_own"), model.other("a")]
            taken = [0.0] * (len(loads) + 1)
            for turn in range(_TURNS + 1):
                costs = []
                for load in loads:
                    start = time.process_time()
                    for _ in range(_REQUESTS):
                        load.infer(tensor)
                    costs.append(time.process_time() - start)
                costs.append(sum(execute() for _ in range(_REQUESTS)))
                if turn:  # the first one warms up
                    taken = [before + cost for before, cost in zip(taken, costs, strict=True)]
    calls, own, none, execution = (1e6 * cost / (_TURNS * _REQUESTS) for cost in taken)
    return CallCosts(calls - none, own - none, 3 * execution)


@contextmanager
def _one_core() -> Iterator[None]:
    """For this thread and those that it starts."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _write(directory: Path, config: str, program: str) -> None:
    (directory / "1").mkdir(parents=True)
    (directory / "config.pbtxt").write_text(config)
    (directory / "1" / "model.py").write_text(program)


@contextmanager
def _executing(directory: Path) -> Iterator[Callable[[], float]]:
    """Seconds of taking a request from the queue, executing and answering it, all on this thread."""
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
    array = np.zeros((1, 16), np.float32)

    def execute() -> float:
        call = _core.ModelCall(engine, "a", -1, [("INPUT0", "FP32", array)])
        start = time.thread_time()
        batch = core.poll()
        assert batch is not None
        instance.execute(batch)
        batch.finish()
        taken = time.thread_time() - start
        call.next()
        return taken

    yield execute
    instance.close()
    backend.close()
    model.stop()
