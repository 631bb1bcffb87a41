# SPDX-License-Identifier: Apache-2.0
"""The models that the fault tests attack: identities of many types, and Python models that do as the request says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contract.conftest import GATE, add_model, identity

__all__ = ["FAULTY", "closed_gate", "make_models"]

#: does what the request parameter ``mode`` says; everything but its own fault is right
FAULTY = """
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

Response, Tensor = pb_utils.InferenceResponse, pb_utils.Tensor


def good(request):
    return Response([Tensor("OUTPUT0", request.inputs()[0].as_numpy() * 2), Tensor("OUTPUT1", rows(request))])


def rows(request):
    return request.inputs()[0].as_numpy()[:, :1].astype(np.int64)


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("again")


class TritonPythonModel:
    def execute(self, requests):
        modes = [request_mode(request) for request in requests]
        for mode in modes:
            if mode.startswith("echo "):
                echo(requests, mode)
            if mode.startswith("wait "):
                return wait(requests, mode[5:])
            if mode in WHOLE:
                return WHOLE[mode](requests)
        return [SINGLE.get(mode, good)(request) for mode, request in zip(modes, requests)]


def request_mode(request):
    import json
    return json.loads(request.parameters()).get("mode", "")


def fail(error):
    raise error


def two(request, first, second=None):
    outputs = [Tensor(*first)] if first else []
    return Response(outputs + [Tensor(*(second or ("OUTPUT1", rows(request))))])


def data(request):
    return request.inputs()[0].as_numpy()


def wait(requests, gate):
    # busy until the gate is open
    Path(gate + ".began").touch()
    while not Path(gate + ".open").exists():
        time.sleep(0.002)
    return [good(request) for request in requests]


def echo(requests, mode):
    raise ValueError(mode[5:])


WHOLE = {
    "raise": lambda r: fail(ValueError("the model says no")),
    "raise with a path": lambda r: fail(ValueError(f"can not read {__file__} and {Path('/usr/lib/secret')}")),
    "raise without a text": lambda r: fail(Unprintable()),
    "raise a huge text": lambda r: fail(ValueError("x" * 1_000_000)),
    "exit": lambda r: fail(SystemExit(3)),
    "stop the loop": lambda r: fail(StopIteration()),
    "run out of memory": lambda r: fail(MemoryError()),
    "recurse": lambda r: WHOLE["recurse"](r),
    "return None": lambda r: None,
    "return a dict": lambda r: {},
    "return a number": lambda r: 7,
    "too few": lambda r: [],
    "too many": lambda r: [good(x) for x in r] + [good(r[0])],
    "not a response": lambda r: [1 for x in r],
    "None in the list": lambda r: [None for x in r],
    "the same response for all": lambda r: [good(r[0])] * len(r),
    "reversed list": lambda r: list(reversed([good(x) for x in r])),
    "empties the requests": lambda r: ([good(x) for x in r], r.clear())[0],
}
SINGLE = {
    "raise for one": lambda r: Response(error=pb_utils.TritonError("this one is bad")),
    "invalid argument for one": lambda r: Response(
        error=pb_utils.TritonError("bad argument", pb_utils.TritonError.INVALID_ARG)
    ),
    "missing output": lambda r: two(r, None),
    "unknown output": lambda r: two(r, ("OTHER", data(r))),
    "output twice": lambda r: two(r, ("OUTPUT1", rows(r))),
    "wrong dtype": lambda r: two(r, ("OUTPUT0", data(r).astype(np.float64))),
    "text for numbers": lambda r: two(r, ("OUTPUT0", np.array([[b"a"] * data(r).shape[1]], dtype=object))),
    "wrong rank": lambda r: two(r, ("OUTPUT0", data(r).reshape(-1))),
    "wrong dimension": lambda r: two(r, ("OUTPUT0", np.zeros((data(r).shape[0], 5), np.float32))),
    "wrong batch": lambda r: two(r, ("OUTPUT0", np.zeros((data(r).shape[0] + 1, 4), np.float32))),
    "scalar": lambda r: two(r, ("OUTPUT0", np.array(3, np.float32))),
    "other order": lambda r: Response(good(r).output_tensors()[::-1]),
    "not contiguous": lambda r: two(r, ("OUTPUT0", np.repeat(data(r), 2, axis=1)[:, ::2] * 2)),
    "transposed": lambda r: two(r, ("OUTPUT0", np.asfortranarray(data(r) * 2))),
    "backwards": lambda r: two(r, ("OUTPUT0", (data(r)[:, ::-1] * 2)[:, ::-1])),
    "big-endian": lambda r: two(r, ("OUTPUT0", (data(r) * 2).astype(">f4"))),
    "input as output": lambda r: two(r, ("OUTPUT0", data(r))),
    "no array": lambda r: Response([Tensor("OUTPUT0", [1, 2])]),
}
"""

SLOW = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.1)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""

HUGE = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.ones(int(r.inputs()[0].as_numpy()[0]), "f4"))])
            for r in requests
        ]
"""

MANY = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    \"\"\"Decoupled: INPUT0 is [count, elements]; so many responses, unless nobody waits for them.\"\"\"

    def execute(self, requests):
        for request in requests:
            count, elements = (int(value) for value in request.inputs()[0].as_numpy())
            sender = request.get_response_sender()
            for number in range(count):
                if sender.is_cancelled():
                    break
                tensor = pb_utils.Tensor("OUTPUT0", np.full(elements, number, np.int64))
                sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


def _tensor(kind: str, name: str, datatype: str, dims: str) -> str:
    return f'{kind} [ {{ name: "{name}" data_type: {datatype} dims: [ {dims} ] }} ] '


@contextmanager
def closed_gate(repository: Path, name: str) -> Iterator[Path]:
    """The folder of a model that executes one request at a time: it has ``began`` once the first is under way, and none
    is answered before the file ``open`` is there, at the latest when this is left.
    """
    folder = repository / name
    for file in ("began", "open"):
        (folder / file).unlink(missing_ok=True)
    try:
        yield folder
    finally:
        (folder / "open").touch()


def make_models(repository: Path) -> None:
    """The models, into the folder."""
    for name in ("control", "fixed"):
        add_model(repository, name, identity("TYPE_FP32", "4"))
    add_model(repository, "fp32", identity("TYPE_FP32", "-1"))
    add_model(repository, "text", identity("TYPE_STRING", "-1"))
    add_model(repository, "flat", identity("TYPE_FP32", "-1", batch=0))
    add_model(repository, "flat_text", identity("TYPE_STRING", "-1", batch=0))
    add_model(repository, "plane", identity("TYPE_FP32", "-1, -1", batch=0))
    for datatype in ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"):
        add_model(repository, datatype.lower(), identity(f"TYPE_{datatype}", "-1", batch=0))
    for datatype in ("FP16", "BF16", "FP64"):
        add_model(repository, datatype.lower(), identity(f"TYPE_{datatype}", "-1", batch=0))
    pair = 'backend: "identity" max_batch_size: 8 '
    for kind in ("input", "output"):
        for number in (0, 1):
            pair += _tensor(kind, f"{kind.upper()}{number}", "TYPE_FP32", "2")
    add_model(repository, "pair", pair + "instance_group [ { count: 1 kind: KIND_CPU } ]")
    python = 'backend: "python" instance_group [ { count: 1 kind: KIND_CPU } ] '
    faulty = (
        "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 1000 } "
        + _tensor("input", "INPUT0", "TYPE_FP32", "4")
        + _tensor("output", "OUTPUT0", "TYPE_FP32", "4")
        + _tensor("output", "OUTPUT1", "TYPE_INT64", "1")
    )
    add_model(repository, "faulty", python + faulty, {"model.py": FAULTY})
    threads = ' parameters { key: "ISOLATION" value { string_value: "thread" } }'
    add_model(repository, "faulty_in_threads", python + faulty + threads, {"model.py": FAULTY})
    slow = _tensor("input", "INPUT0", "TYPE_FP32", "-1") + _tensor("output", "OUTPUT0", "TYPE_FP32", "-1")
    add_model(repository, "slow", python + "max_batch_size: 1 " + slow, {"model.py": SLOW})
    queue = "max_batch_size: 1 dynamic_batching { default_queue_policy { max_queue_size: 4 } } "
    add_model(repository, "gate", python + "max_batch_size: 1 " + slow, {"model.py": GATE})
    add_model(repository, "short_queue", python + queue + slow, {"model.py": GATE})
    huge = _tensor("input", "INPUT0", "TYPE_INT64", "1") + _tensor("output", "OUTPUT0", "TYPE_FP32", "-1")
    add_model(repository, "huge", python + huge, {"model.py": HUGE})
    many = _tensor("input", "INPUT0", "TYPE_INT64", "2") + _tensor("output", "OUTPUT0", "TYPE_INT64", "-1")
    many += "model_transaction_policy { decoupled: true } "
    add_model(repository, "many", python + many, {"model.py": MANY})
