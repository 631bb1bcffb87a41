# SPDX-License-Identifier: Apache-2.0
"""A batch in plain Python, for tests of a backend's own logic: what is answered is kept and can be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FakeBatch"]

WIRE = {
    np.dtype(np.float32): "FP32",
    np.dtype(np.float16): "FP16",
    np.dtype(np.int64): "INT64",
    np.dtype(np.int32): "INT32",
    np.dtype(np.uint16): "BF16",
    np.dtype(np.object_): "BYTES",
    np.dtype(np.bool_): "BOOL",
}


class FakeBatch:
    """Requests given as one dict of arrays each; the first dimension is the batch's. uint16 stands for BF16."""

    def __init__(
        self,
        *requests: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] = (),
        parameters: Any = None,
        decoupled: bool = False,
    ) -> None:
        self._requests = [dict(request) for request in requests]
        self._outputs = list(outputs)
        self._parameters = parameters or {}
        self._decoupled = decoupled
        self.answers: dict[int, Any] = {}
        #: of the requests that were detached
        self.responders: dict[int, FakeResponder] = {}

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def rows(self) -> int:
        return sum(max(1, len(next(iter(request.values())))) for request in self._requests)

    def packed(self) -> dict[str, NDArray[Any]]:
        first = self._requests[0]
        return {name: np.concatenate([request[name] for request in self._requests]) for name in first}

    def input_names(self, index: int) -> list[str]:
        return list(self._requests[index])

    def input(self, index: int, name: str, lazy: bool = False) -> tuple[str, NDArray[Any]] | None:
        array = self._requests[index].get(name)
        return None if array is None else (WIRE[array.dtype], array)

    def request_id(self, index: int) -> str:
        return f"id{index}"

    def requested_outputs(self, index: int) -> list[str]:
        return self._outputs

    def parameters(self, index: int) -> dict[str, Any]:
        return dict(self._parameters)

    def trace(self, index: int) -> None:
        return None

    def trace_context(self, index: int) -> dict[str, str] | None:
        return None

    def correlation_id(self, index: int) -> int | str:
        return 7

    def flags(self, index: int) -> int:
        return 1

    def timeout_us(self, index: int) -> int:
        return 90

    def is_cancelled(self, index: int) -> bool:
        return False

    def call_parent(self, index: int) -> object:
        return object()

    def detach(self, index: int) -> FakeResponder:
        self.responders[index] = FakeResponder(decoupled=self._decoupled)
        return self.responders[index]

    def respond_packed(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        start = 0
        for index, request in enumerate(self._requests):
            rows = len(next(iter(request.values())))
            part = {name: (WIRE[array.dtype], array[start : start + rows]) for name, array in outputs.items()}
            self._answer(index, part)
            start += rows

    def respond(self, index: int, outputs: Sequence[tuple[str, str, NDArray[Any]]], parameters: Any = None) -> None:
        self._answer(index, {name: (datatype, array) for name, datatype, array in outputs})
        self.response_parameters = parameters

    def fail(self, index: int, code: str, message: str) -> None:
        self._answer(index, (code, message))

    def _answer(self, index: int, answer: Any) -> None:
        if index in self.answers:
            raise RuntimeError(f"request {index} is answered already")
        if isinstance(answer, dict):
            answer = {name: (datatype, _sent(array)) for name, (datatype, array) in answer.items()}
        self.answers[index] = answer


class FakeResponder:
    """One detached request: what was sent, as (outputs or (code, message), final); an end alone is (None, True)."""

    def __init__(self, *, decoupled: bool) -> None:
        self.decoupled = decoupled
        self.ended = False
        self.sent: list[tuple[Any, bool]] = []

    def send(self, outputs: Sequence[tuple[str, str, NDArray[Any]]], parameters: Any = None, *, final: bool) -> bool:
        return self._take({name: array.tolist() for name, _, array in outputs}, final)

    def fail(self, code: str, message: str, *, final: bool) -> bool:
        return self._take((code, message), final)

    def end(self) -> bool:
        return self._take(None, True)

    def is_cancelled(self) -> bool:
        return self.ended

    def _take(self, response: Any, final: bool) -> bool:
        if self.ended:
            return False
        self.ended = final
        self.sent.append((response, final))
        return True


def _sent(array: NDArray[Any]) -> NDArray[Any]:
    """As the core sends it: elements that are not bytes become the UTF-8 of their text."""
    if array.dtype != np.object_:
        return array
    elements = [each if isinstance(each, bytes) else str(each).encode() for each in array.ravel().tolist()]
    converted = np.empty(len(elements), dtype=object)
    converted[:] = elements
    return converted.reshape(array.shape)
