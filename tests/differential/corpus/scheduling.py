# SPDX-License-Identifier: Apache-2.0
"""Queue policies, while the one instance is busy, and sequences that share and wait for places.

The requests of a case are sent on one stream: that is their order, and none waits for the answer of another one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from differential.case import Case
from differential.corpus.build import grpc_infer, infer_request, json_infer, stream, tensor

__all__ = ["queues", "sequence_ids", "sequence_places", "sequence_timeouts"]

#: long enough for all requests of a case to arrive; Triton looks for a free instance twice a second
_BUSY_MS = 300


def _wait(model: str, name: str, milliseconds: int = 0, **parameters: object) -> bytes:
    return infer_request(
        model, [("MS", "INT32", [1, 1])], [struct.pack("<i", milliseconds)], id=name, parameters=parameters
    )


def _behind(name: str, model: str, *waiting: tuple[str, dict[str, object]]) -> Case:
    """``waiting`` requests (id, parameters), sent while the instance is busy. Those of one model follow each other."""
    busy = _wait(model, "0", _BUSY_MS, first=True, priority=1)
    requests = stream(busy, *(_wait(model, i, **given) for i, given in waiting), interleaved=True)
    return Case(f"{model}: {name}", requests, lane=model)


def queues() -> Iterable[Case]:
    yield from _order()
    yield from _limits()
    yield from _timeouts()


def _order() -> Iterator[Case]:
    """Priorities: levels 1 to 3, 2 where a request has none."""
    for priorities in (
        (3, 2, 1),
        (0, 3, 2, 1),
        (3, 3, 1, 1, 2, 2),
        (4, 1),
        (2**32, 1),
    ):
        waiting: list[tuple[str, dict[str, object]]] = [
            (f"{place}", {"priority": ("uint64_param", priority)}) for place, priority in enumerate(priorities, 1)
        ]
        yield _behind(f"priorities {priorities}", "levels", *waiting)
    # without a batcher there are neither levels nor limits of time
    waiting = [(f"{place}", {"priority": priority, "timeout": 1}) for place, priority in enumerate((3, 2, 1), 1)]
    yield _behind("priorities and timeouts", "no_batcher", *waiting)
    yield _behind("no priority", "levels", ("1", {"priority": 3}), ("2", {}), ("3", {"priority": 1}))


def _limits() -> Iterator[Case]:
    """At most two of the second priority wait; no limit for the first."""
    for count in (1, 2, 3, 5):
        yield _behind(f"{count} wait", "limited", *((f"{place}", {"priority": 2}) for place in range(1, count + 1)))
    yield _behind("another level", "limited", *((f"{place}", {"priority": 1}) for place in range(1, 5)))


def _timeouts() -> Iterator[Case]:
    for model in ("rejecting", "delaying"):
        for timeout in (0, 1, 1000, 10**9):
            yield _behind(
                f"timeout {timeout}", model, ("1", {"priority": 2, "timeout": timeout}), ("2", {"priority": 2})
            )
        yield _behind("both time out", model, *((f"{place}", {"priority": 2, "timeout": place}) for place in (1, 2)))
        yield _behind(
            "the one in between",
            model,
            ("1", {"priority": 2}),
            ("2", {"priority": 2, "timeout": 1000}),
            ("3", {"priority": 2}),
            ("4", {"priority": 3}),
        )
    yield _behind("not to be overridden", "strict", ("1", {"priority": 2, "timeout": 1}), ("2", {"priority": 2}))
    # these wait for others to make up a batch, longer than they may
    yield Case("alone over HTTP", json_infer("hasty", [tensor("INPUT0", "FP32", [1, 1], [1])]))
    yield Case("alone over HTTP with an id", json_infer("hasty", [tensor("INPUT0", "FP32", [1, 1], [1])], id="a"))
    yield Case("alone over gRPC", grpc_infer("hasty", [("INPUT0", "FP32", [1, 1])], [bytes(4)], id="a"))
    yield Case(
        "alone on a stream",
        stream(*(infer_request("hasty", [("INPUT0", "FP32", [1, 1])], [bytes(4)], id=i) for i in "ab")),
    )


def _part(model: str, key: object, value: int, *flags: str, **more: object) -> bytes:
    parameters = {"sequence_id": key, **{f"sequence_{flag}": True for flag in flags}, **more}
    name, shape = f"{key}.{value}", [1] if model == "direct_1" else [1, 1]
    return infer_request(model, [("INPUT", "INT32", shape)], [struct.pack("<i", value)], id=name, parameters=parameters)


def _whole(model: str, key: object, length: int) -> list[bytes]:
    """The requests of a sequence, the first with the start and the last one with the end."""
    flags = [(["start"] if not at else []) + (["end"] if at == length - 1 else []) for at in range(length)]
    return [_part(model, key, at + 1, *given) for at, given in enumerate(flags)]


def _in_turn(sequences: Sequence[list[bytes]]) -> list[bytes]:
    return [part[at] for at in range(max(map(len, sequences))) for part in sequences if at < len(part)]


def sequence_places() -> Iterable[Case]:
    """More sequences than places; a sequence that ends makes room for one that waits."""
    for model in ("direct", "oldest", "direct_1", "oldest_1"):
        for count, length in ((2, 3), (4, 3), (5, 2), (7, 3), (12, 1)):
            parts = [_whole(model, key, length) for key in range(1, count + 1)]
            name = f"{model}: {count} of {length}"
            yield Case(f"{name}, one after another", stream(*(p for part in parts for p in part), interleaved=True))
            yield Case(f"{name}, in turn", stream(*_in_turn(parts), interleaved=True))
        lengths = [_whole(model, key, key) for key in range(1, 7)]
        yield Case(f"{model}: of several lengths", stream(*_in_turn(lengths), interleaved=True))
        again = [
            _part(model, 1, 1, "start"),
            _part(model, 1, 2),
            _part(model, 1, 3, "start"),
            _part(model, 1, 4, "end"),
        ]
        yield Case(f"{model}: started again", stream(*again, interleaved=True))
        bad = [_part(model, 1, 1, "start"), _part(model, 2, 1), _part(model, 1, 2, "end"), _part(model, 1, 3)]
        yield Case(f"{model}: without a start, beside a good one", stream(*bad, interleaved=True))


def sequence_timeouts() -> Iterable[Case]:
    """Sequences that may not wait for a place as long as others have all of them."""
    for model in ("direct", "oldest"):
        held = range(1, 5)
        yield Case(f"{model}: all places", stream(*(_part(model, key, 1, "start", timeout=1) for key in held)))
        waiting = (
            ("the first request", (_part(model, 9, 1, "start", timeout=1000),)),
            ("a later one", (_part(model, 9, 1, "start"), _part(model, 9, 2, timeout=1000))),
            ("one long, one short", (_part(model, 9, 1, "start", timeout=10**8), _part(model, 9, 2, timeout=1000))),
            ("all of it", (_part(model, 9, 1, "start", "end", timeout=1000),)),
        )
        for name, parts in waiting:
            yield Case(f"{model}: timeout of {name}", stream(*parts))
        alone = {"sequence_id": 9, "sequence_start": True, "timeout": 1000}
        inputs = [tensor("INPUT", "INT32", [1, 1], [1])]
        yield Case(f"{model}: over HTTP", json_infer(model, inputs, parameters=alone, id="a"))
        yield Case(f"{model}: given up", stream(_part(model, 9, 3)))
        yield Case(f"{model}: the end of the others", stream(*(_part(model, key, 2, "end") for key in held)))


#: data type of the control tensor -> ids
_IDS: dict[str, tuple[object, ...]] = {
    "uint64": (1, 2**32, 2**63 - 1, ("uint64_param", 2**64 - 1), "text"),
    "int64": (1, 2**63 - 1, "text"),
    "uint32": (1, 2**32 - 1, 2**32, 2**32 + 5, "text"),
    "int32": (1, 2**31 - 1, 2**31, "text"),
    "string": ("text", "1", "é", "x" * 128, "x" * 129, "a b", 1),
    "none": (1, "text"),
}


def sequence_ids() -> Iterable[Case]:
    """Ids of each type, for control tensors of each data type."""
    for kind, keys in _IDS.items():
        for key in keys:
            shown = f"{key!r:.20} ({len(str(key))})"
            model = f"corrid_{kind}"
            parameters = {"sequence_id": key, "sequence_start": True, "sequence_end": True}
            over_grpc = grpc_infer(model, [("INPUT", "INT32", [1, 1])], [bytes(4)], parameters=parameters)
            yield Case(f"{kind}: {shown}", over_grpc)
            if not isinstance(key, tuple):
                inputs = [tensor("INPUT", "INT32", [1, 1], [1])]
                yield Case(f"{kind}: {shown} over HTTP", json_infer(model, inputs, parameters=parameters))
