# SPDX-License-Identifier: Apache-2.0
"""What this machine can do with an ONNX model at best: ONNX Runtime in this process, without a server around it.

Each cell is a batch size, a number of instances (threads that run batches at the same time, on one session, as the
backend ``onnxruntime`` has them) and the threads that each of them may use for one batch. Needs the package
``onnxruntime``, which is imported when a model is opened.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from pyinfer._core import deserialize_bytes
from pyinfer.errors import InvalidArgument, ModelError
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.target import ModelInfo, TensorInfo
from pyinfer.perf.tensors import Tensor, dtype_of, make_requests
from pyinfer.perf.turns import take_turns

__all__ = ["Cell", "Limit", "OnnxModel", "default_ways", "measure_limit"]

_DATATYPES = {
    "bool": "BOOL",
    "string": "BYTES",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True)
class Cell:
    """One way to run the model. ``threads`` of each instance."""

    batch_size: int
    instances: int
    threads: int


@dataclass
class Limit:
    """What was measured: for each cell the rows a second of each round, milliseconds of an execution, and the CPU time
    of a row. Cells that could not run are in ``failures``, with the reason.
    """

    rates: dict[Cell, list[float]] = field(default_factory=dict)
    batch_ms: dict[Cell, list[float]] = field(default_factory=dict)
    row_cpu_us: dict[Cell, list[float]] = field(default_factory=dict)
    failures: dict[Cell, str] = field(default_factory=dict)

    def rate(self, cell: Cell) -> float:
        """Rows a second, the median of the rounds."""
        return median(self.rates[cell])

    @property
    def best(self) -> Cell | None:
        """The cell with the most rows a second."""
        return max(self.rates, key=self.rate, default=None)


def default_ways(cores: int) -> list[tuple[int, int]]:
    """(instances, threads) that are worth a try: one instance, and as many as there are cores for, of 1, 2, 4 ...
    threads up to all cores.
    """
    threads = sorted({min(2**power, cores) for power in range(cores.bit_length() + 1)})
    return sorted({(count, each) for each in threads for count in (1, max(1, cores // each))})


class OnnxModel:
    """A model file, opened once for each number of threads. Raises ModelError where it can not be opened."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise ModelError("onnxruntime is not installed: pip install 'pyinfer[onnx]'") from None
        self._runtime, self._path = onnxruntime, path
        self._sessions: dict[int, Any] = {}
        if not path.is_file():
            raise ModelError(f"there is no file {path}")
        session = self.session(1)
        inputs = tuple(_info(one) for one in session.get_inputs())
        #: whether the first dimension of everything is open: then it is the batch's
        self.batches = bool(inputs) and all(
            one.shape and not isinstance(one.shape[0], int) for one in (*session.get_inputs(), *session.get_outputs())
        )
        self._inputs = inputs

    def session(self, threads: int) -> Any:
        """That runs a batch on so many threads, which do not spin: so does the backend if it is not told otherwise."""
        if threads not in self._sessions:
            options = self._runtime.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            for pool in ("intra_op", "inter_op"):
                options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
            try:
                self._sessions[threads] = self._runtime.InferenceSession(
                    str(self._path), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # the runtime's own kinds
                raise ModelError(f"{self._path} can not be opened: {error}") from None
        return self._sessions[threads]

    def feeds(self, batch_size: int, options: PerfOptions) -> Mapping[str, Any]:
        """A batch of what ``pyinfer perf`` sends with these options. Raises InvalidArgument, e.g. for open shapes."""
        info = ModelInfo(self._inputs, (), batch_size if self.batches else 0)
        if not self.batches and batch_size > 1:
            raise InvalidArgument("the model does not batch: its first dimension is fixed")
        sent = make_requests(info, replace(options, batch_size=batch_size))[0]
        return {one.name: _array(one) for one in sent}


def _info(argument: Any) -> TensorInfo:
    kind = str(argument.type).removeprefix("tensor(").removesuffix(")")
    if kind not in _DATATYPES:
        raise ModelError(f"input '{argument.name}' is a {argument.type}, for which there is no data")
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in argument.shape)
    return TensorInfo(str(argument.name), _DATATYPES[kind], shape)


def _array(tensor: Tensor) -> Any:
    import numpy as np

    if tensor.datatype == "BYTES":
        texts = [text.decode("utf-8", "replace") for text in deserialize_bytes(tensor.raw, -1)]
        return np.array(texts, dtype=object).reshape(tensor.shape)
    return np.frombuffer(tensor.raw, dtype=dtype_of(tensor.datatype)).reshape(tensor.shape)


def measure_limit(
    model: OnnxModel,
    cells: Sequence[Cell],
    options: PerfOptions,
    found: Limit,
    *,
    seconds: float,
    rounds: int,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Run each cell for ``seconds`` in each of ``rounds``, forwards and backwards in turn, and fill ``found``.

    ``found`` keeps what there is when this is interrupted. Raises InvalidArgument for data that the model can not take.
    """
    batches = {size: model.feeds(size, options) for size in {cell.batch_size for cell in cells}}
    for number, cell in take_turns(cells, rounds):
        if cell in found.failures:
            continue
        say(f"round {number + 1} of {rounds}: batch size {cell.batch_size}, {cell.instances} x {cell.threads} threads")
        try:
            session = model.session(cell.threads)
            if number == 0:
                session.run(None, batches[cell.batch_size])  # plans memory, makes threads
            ran = _run(session, batches[cell.batch_size], cell.instances, seconds)
        except ModelError as error:
            found.failures[cell] = str(error)
            continue
        except Exception as error:  # the runtime's own kinds: a shape that the model does not take, memory
            found.failures[cell] = str(error).splitlines()[0]
            continue
        rate = ran.rate * cell.batch_size
        found.rates.setdefault(cell, []).append(rate)
        found.batch_ms.setdefault(cell, []).append(cell.instances / ran.rate * 1e3)
        found.row_cpu_us.setdefault(cell, []).append(ran.cpu_s / ran.count / cell.batch_size * 1e6)
        say(f"  {rate:.1f} rows/s")


@dataclass(frozen=True)
class _Ran:
    """``rate`` of executions a second, of all threads together."""

    count: int
    rate: float
    cpu_s: float


def _run(session: Any, feeds: Mapping[str, Any], instances: int, seconds: float) -> _Ran:
    """Execute on so many threads at a time, each until the time is up. Raises what an execution has raised."""
    done: list[tuple[int, float]] = []
    errors: list[Exception] = []
    begin = threading.Barrier(instances)
    interrupted = threading.Event()
    ends = [threading.Event() for _ in range(instances)]

    def work(end: threading.Event) -> None:
        count = 0
        try:
            begin.wait()
            started = time.monotonic()
            while ((taken := time.monotonic() - started) < seconds or not count) and not interrupted.is_set():
                session.run(None, feeds)
                count += 1
            done.append((count, taken))
        except Exception as error:  # handed over
            errors.append(error)
        finally:
            end.set()

    threads = [threading.Thread(target=work, args=(end,), daemon=True) for end in ends]
    cpu = time.process_time()
    try:
        for thread in threads:
            thread.start()
        for end in ends:
            end.wait()
    except KeyboardInterrupt:
        # A thread that comes back from the runtime while the interpreter ends would abort the process. join() does not
        # wait any more once it has been interrupted.
        interrupted.set()
        begin.abort()
        for thread, end in zip(threads, ends, strict=True):
            if thread.ident is not None:
                end.wait()
        raise
    if errors:
        raise errors[0]
    return _Ran(sum(count for count, _ in done), sum(count / taken for count, taken in done), time.process_time() - cpu)
