# SPDX-License-Identifier: Apache-2.0
"""Models that call models ("business logic scripting"): what ``InferenceRequest.exec`` and ``async_exec`` stand on.

A call is a push on the callee's queue. In the server nothing is serialized: arrays that a waiting caller hands over
are read where they are; ``async_exec`` copies them, because the caller goes on. What the callee returns is read-only
where it is memory of somebody else, and copied when it is asked for.

Who calls is known from the thread or the task: an instance that executes a batch is the caller, the requests of the
batch are those on whose behalf it calls. When all of them are cancelled the call is, and where the call has no timeout
of its own it gets what is left of theirs. A thread that a model has started calls on nobody's behalf.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from pyinfer._core import CallMailbox, ModelCall
from pyinfer.backends.python import _objects
from pyinfer.backends.python._objects import CallScope, InferenceRequest, InferenceResponse, TritonModelException

if TYPE_CHECKING:
    import asyncio

    from pyinfer._core import Engine, WorkerCalls
    from pyinfer.backends.base import ModelControl

__all__ = ["ResponseIterator", "control_of", "execute_async", "made", "making", "scope_outside", "serve"]


#: the model whose ``initialize`` or ``finalize`` this is
_made: ContextVar[str] = ContextVar("pyinfer_made_model", default="")
#: of the server whose model was loaded last: what threads of models and helper functions find it by
_engine: weakref.ref[Engine | WorkerCalls] | None = None
_control: weakref.ref[ModelControl] | None = None


def serve(engine: Engine | WorkerCalls, control: ModelControl | None) -> None:
    """Let the code of models find the server that it is part of."""
    global _engine, _control
    _engine = weakref.ref(engine)
    _control = None if control is None else weakref.ref(control)


@contextmanager
def making(model: str) -> Iterator[None]:
    """While code of ``model`` runs that its load or its unload waits for."""
    token = _made.set(model)
    try:
        yield
    finally:
        _made.reset(token)


def made() -> str:
    """The model whose load or unload waits for the code that asks; "" where none does."""
    return _made.get()


def control_of(model: str) -> ModelControl:
    """What loads and unloads ``model`` here, for code of models; "" where it is merely asked.

    Raises TritonModelException outside the server, and where the code would wait for itself.
    """
    if model and made() == model:
        raise TritonModelException(
            f"model '{model}' would wait for ever for itself: neither initialize nor finalize can load or unload their "
            "own model"
        )
    control = None if _control is None else _control()
    if control is None:
        raise TritonModelException("models are loaded and unloaded only inside the server")
    return control


def scope_outside() -> CallScope:
    """That of code which no instance executes, as a thread that a model has started.

    Raises TritonModelException where there is no server.
    """
    engine = None if _engine is None else _engine()
    if engine is None:
        raise TritonModelException("a model can call another one only inside the server, from a thread of it")
    return CallScope(engine)


class ResponseIterator:
    """The responses to a call of a decoupled model, in order, the last one included: it may have no tensors."""

    def __init__(self, call: ModelCall) -> None:
        self._call = call

    def __iter__(self) -> Iterator[InferenceResponse]:
        return self

    def __next__(self) -> InferenceResponse:
        item = self._call.next()
        if item is None:
            raise StopIteration
        return _objects.response_of(item)

    def cancel(self) -> None:
        """Tell the callee that nobody waits any more."""
        self._call.cancel()


def execute_async(
    request: InferenceRequest, decoupled: bool
) -> asyncio.Future[InferenceResponse] | asyncio.Future[ResponseIterator]:
    """As ``InferenceRequest.exec``, for a task of an event loop: the call has begun when this returns."""
    import asyncio  # which has been imported by whoever has a loop

    loop = asyncio.get_running_loop()
    call = _objects.start_call(request, _objects.current_scope(), decoupled, waits=False)
    if decoupled:
        iterator: asyncio.Future[ResponseIterator] = loop.create_future()
        iterator.set_result(ResponseIterator(call))
        return iterator
    item = call.poll()
    if item is not None:
        answered: asyncio.Future[InferenceResponse] = loop.create_future()
        answered.set_result(_objects.response_of(item))
        return answered
    return _waiting_of(loop).add(loop, call)


class _Waiting:
    """The calls of one event loop that are not answered yet, with one descriptor. It does not hold the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._mailbox = CallMailbox()
        self._calls: dict[int, tuple[ModelCall, asyncio.Future[InferenceResponse]]] = {}
        self._numbers = itertools.count()
        loop.add_reader(self._mailbox.fileno(), self._collect)

    def add(self, loop: asyncio.AbstractEventLoop, call: ModelCall) -> asyncio.Future[InferenceResponse]:
        future: asyncio.Future[InferenceResponse] = loop.create_future()
        number = next(self._numbers)
        self._calls[number] = (call, future)
        future.add_done_callback(lambda done: self._on_done(number, done))
        call.notify(self._mailbox, number)
        return future

    def _on_done(self, number: int, future: asyncio.Future[InferenceResponse]) -> None:
        call, _ = self._calls.pop(number)
        if future.cancelled():
            call.cancel()

    def _collect(self) -> None:
        for number in self._mailbox.collect():
            found = self._calls.get(number)
            if found is None or found[1].done():
                continue
            item = found[0].poll()
            assert item is not None
            found[1].set_result(_objects.response_of(item))


_waiting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting] = weakref.WeakKeyDictionary()


def _waiting_of(loop: asyncio.AbstractEventLoop) -> _Waiting:
    found = _waiting.get(loop)
    if found is None:
        found = _waiting[loop] = _Waiting(loop)
    return found
