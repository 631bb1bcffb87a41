# SPDX-License-Identifier: Apache-2.0
"""The surface of the compiled objects of the Python backend. Not thread safe: one batch belongs to one thread."""

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, final

from numpy.typing import NDArray

if TYPE_CHECKING:
    from pyinfer._core import Batch, BytesView, Engine, ModelCall, Responder, WorkerCalls

__all__ = [
    "CallScope",
    "ErrorCode",
    "InferenceRequest",
    "InferenceResponse",
    "InferenceResponseSender",
    "InferenceTrace",
    "Tensor",
    "TritonError",
    "TritonModelException",
    "current_scope",
    "decoupled_fault",
    "execute_batch",
    "fail_all",
    "get_input_tensor_by_name",
    "get_output_tensor_by_name",
    "requests_of",
    "response_of",
    "start_call",
]

class TritonModelException(Exception):
    """An error that a model raises on purpose, or that these objects raise at a model's mistake."""

    def message(self) -> str: ...

class ErrorCode(IntEnum):
    """Triton's codes of errors."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7

@final
class TritonError:
    """The error of one response: a text and one of Triton's codes (default INTERNAL)."""

    UNKNOWN: ClassVar[ErrorCode]
    INTERNAL: ClassVar[ErrorCode]
    NOT_FOUND: ClassVar[ErrorCode]
    INVALID_ARG: ClassVar[ErrorCode]
    UNAVAILABLE: ClassVar[ErrorCode]
    UNSUPPORTED: ClassVar[ErrorCode]
    ALREADY_EXISTS: ClassVar[ErrorCode]
    CANCELLED: ClassVar[ErrorCode]

    def __init__(self, message: str, code: int = 1) -> None: ...
    def message(self) -> str: ...
    def code(self) -> ErrorCode: ...

@final
class Tensor:
    """A named array of any shape, in CPU memory.

    Only an input may be on a CUDA device: one of a client's CUDA shared memory, where the model's parameter
    FORCE_CPU_ONLY_INPUT_TENSORS is ``no``. It has no ``as_numpy``, is lent by DLPack without a copy, and is copied to
    the host where it becomes an output.

    Object arrays (and arrays of fixed-length bytes) are BYTES, the dtype bfloat16 of ml_dtypes is BF16 and is then held
    as uint16 raw bits. A non-contiguous or big-endian array is copied. Raises TritonModelException for other dtypes.
    """

    def __init__(self, name: str, numpy_array: NDArray[Any]) -> None: ...
    @staticmethod
    def from_dlpack(name: str, tensor: object) -> Tensor:
        """A tensor from one with ``__dlpack__`` or a DLPack capsule: on the CPU it shares the memory, from a CUDA
        device it is copied to the host. TritonModelException where it is elsewhere, or not contiguous.
        """
    def name(self) -> str: ...
    def as_numpy(self) -> NDArray[Any]:
        """The data. Of a request's input: a copy that belongs to the model, writable, the same at every call.

        The objects of BYTES are made at the first call, and not before: a tensor that is only passed on costs nothing.
        """
    def bytes_view(self) -> BytesView:
        """The elements of BYTES without an object for each, with where they are. TritonModelException for others."""
    def triton_dtype(self) -> int:
        """Triton's number of the data type (FP32 is 11)."""
    def shape(self) -> list[int]: ...
    def is_cpu(self) -> bool: ...
    def to_dlpack(self) -> object: ...
    def __dlpack__(
        self,
        stream: object = None,
        *,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

@final
class InferenceTrace:
    """The trace that a request belongs to. One that a model makes itself is that of no request."""

    def get_context(self) -> str | None:
        """The W3C headers that lead on to it, as a JSON object: ``traceparent``, and ``tracestate`` where there is one.

        The parent is the span of the model. None where the request is not traced, or not in mode ``opentelemetry``.
        """

@final
class InferenceRequest:
    """One request. Those of the server end with their batch; later use raises TritonModelException."""

    def __init__(
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Iterable[Tensor] = (),
        requested_output_names: Iterable[str] = (),
        model_name: str = "",
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: object = None,
        trace: object = None,
        parameters: Mapping[str, str | int | float | bool] | str | None = None,
    ) -> None: ...
    def input(self, name: str) -> Tensor | None:
        """The input of that name, or None."""
    def inputs(self) -> list[Tensor]: ...
    def request_id(self) -> str: ...
    def correlation_id(self) -> int | str: ...
    def flags(self) -> int: ...
    def set_flags(self, flags: int) -> None:
        """Of a request of the server, only what :meth:`flags` returns is changed."""
    def timeout(self) -> int: ...
    def model_name(self) -> str: ...
    def model_version(self) -> int: ...
    def preferred_memory(self) -> object: ...
    def trace(self) -> InferenceTrace: ...
    def parameters(self) -> str:
        """The custom parameters as JSON text."""
    def requested_output_names(self) -> set[str]: ...
    def is_cancelled(self) -> bool: ...
    def set_release_flags(self, flags: int) -> None:
        """TRITONSERVER_REQUEST_RELEASE_ALL, or _RESCHEDULE: execute the request once more, in a later batch."""
    def get_response_sender(self) -> InferenceResponseSender:
        """What answers this request, now or later, from any thread; ``execute`` then returns nothing for it."""
    def exec(self, decoupled: bool = False) -> Any:
        """Call the model that the request names, and wait for its :class:`InferenceResponse`.

        With ``decoupled``, an iterator over its responses. What the callee could not do is an error of the response.
        Raises TritonModelException for a request of the server, and outside the server.
        """
    def async_exec(self, decoupled: bool = False) -> Any:
        """As ``exec``, but returns a future: the call has begun, and other tasks of the event loop go on."""

@final
class InferenceResponse:
    """The answer to one request: output tensors, or an error (then the tensors are not sent)."""

    def __init__(
        self,
        output_tensors: Iterable[Tensor] = (),
        error: TritonError | None = None,
        parameters: Mapping[str, str | int | float | bool] | str | None = None,
    ) -> None: ...
    def output_tensors(self) -> list[Tensor]: ...
    def has_error(self) -> bool: ...
    def error(self) -> TritonError | None: ...
    def parameters(self) -> str:
        """The response's parameters as JSON text."""

@final
class InferenceResponseSender:
    """Sends the responses to one request. Any thread.

    Once a request has a sender, ``execute`` returns None for it. A request whose sender goes without a last response is
    answered with an error.
    """

    def __init__(self, responder: Responder) -> None: ...
    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send a response; with ``flags`` TRITONSERVER_RESPONSE_COMPLETE_FINAL it is the last (or there is none).

        Raises TritonModelException for other flags, for neither response nor final flag, after the last response, and
        for a second response of a model that is not decoupled.
        """
    def is_cancelled(self) -> bool:
        """True once nobody waits for responses any more."""

def decoupled_fault(name: str, responses: object) -> str | None:
    """The text of what is wrong with what ``execute`` of a decoupled model returned, None if nothing is."""

@final
class CallScope:
    """On whose behalf the code of a thread or a task calls: of the requests of a batch, while that lasts."""

    #: whether this thread may execute a callee that it waits for, where the callee allows it
    runs_callees: bool

    def __init__(self, engine: Engine | WorkerCalls, requests: list[InferenceRequest] | None = None) -> None: ...
    @property
    def engine(self) -> Engine | WorkerCalls: ...
    def enter(self) -> None:
        """For this thread, or this task and those that it starts."""

def current_scope() -> CallScope:
    """That of the code that asks. Raises TritonModelException where there is no server."""

def start_call(request: InferenceRequest, scope: CallScope, decoupled: bool, *, waits: bool) -> ModelCall:
    """Begin the call that ``request`` describes."""

def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    """The request's input ``name``, or None."""

def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Tensor | None:
    """The response's output ``name``, or None."""

def response_of(
    item: tuple[list[tuple[str, str, NDArray[Any]]], tuple[str, str] | None, dict[str, Any], bool],
) -> InferenceResponse:
    """What ``ModelCall.next`` returned, as an object of the model."""

def requests_of(batch: Batch) -> list[InferenceRequest]:
    """One request object for each request of ``batch``."""

def execute_batch(
    batch: Batch,
    scope: CallScope | None,
    execute: Callable[[list[InferenceRequest]], object],
    decoupled: bool,
    model: str,
    told: Callable[[BaseException], str],
    fail: Callable[[Batch, list[InferenceRequest], str], object],
) -> None:
    """Have ``execute``, the code of ``model``, answer the requests of ``batch``, on behalf of which ``scope`` calls.

    What it raises ``told`` makes a text of. ``fail`` is called with the batch, its requests and the text of what was
    wrong. Afterwards the requests are cut off their batch: a model that kept one gets an error, not a crash.
    """

def fail_all(batch: Batch | None, requests: list[InferenceRequest], code: str, message: str) -> None:
    """Answer every request that is not ended with an error, also those that have a sender."""
