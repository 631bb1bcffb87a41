# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, embedsignature=False
"""The objects of the Python backend that exist once per request: compiled, because their creation is the cost.

Longer than 400 lines: the classes reach into each other's fields, which Cython allows within one module.

``Tensor``, ``InferenceRequest``, ``InferenceResponse``, its sender and ``TritonError`` as ``model.py`` sees them; what
leads from a batch through ``execute`` to its answers; what leads from a request that a model has made to a call, and on
whose behalf that is. A request of the server holds nothing but the batch and its
index: a tensor is fetched when it is asked for. Not here: loading models (``backend``), helpers for users (``utils``).
"""

import json
import sys
from contextvars import ContextVar
from enum import IntEnum

cimport cython
from cpython.contextvars cimport get_value
import numpy as np

from pyinfer._core import BytesView, DeviceArray, ModelCall, dlpack_to_host
from pyinfer._core import exec_call as core_exec_call

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

cdef object ndarray = np.ndarray

# The order is Triton's numbering of data types, which the model configuration shares.
cdef tuple WIRE_NAMES = (
    "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES", "BF16",
)
cdef dict NUMBER_OF = {name: number for number, name in enumerate(WIRE_NAMES)}
cdef dict WIRE_NAME_OF = {
    np.dtype(kind): name for kind, name in (
        (np.bool_, "BOOL"), (np.uint8, "UINT8"), (np.uint16, "UINT16"), (np.uint32, "UINT32"), (np.uint64, "UINT64"),
        (np.int8, "INT8"), (np.int16, "INT16"), (np.int32, "INT32"), (np.int64, "INT64"), (np.float16, "FP16"),
        (np.float32, "FP32"), (np.float64, "FP64"), (np.object_, "BYTES"),
    )
}

# A DLPack capsule of the first ABI; only what is read or written here matters, the layout is the standard's.
cdef extern from *:
    """
    #include <stdint.h>
    typedef struct { int32_t device_type; int32_t device_id; } pyinfer_dl_device;
    typedef struct { uint8_t code; uint8_t bits; uint16_t lanes; } pyinfer_dl_type;
    typedef struct { void* data; pyinfer_dl_device device; int32_t ndim; pyinfer_dl_type dtype; } pyinfer_dl_tensor;
    """
    ctypedef struct pyinfer_dl_device:
        int device_type
        int device_id
    ctypedef struct pyinfer_dl_type:
        unsigned char code
        unsigned char bits
    ctypedef struct pyinfer_dl_tensor:
        pyinfer_dl_device device
        pyinfer_dl_type dtype

cdef extern from "Python.h":
    void* PyCapsule_Import(const char* name, bint no_block) except NULL
    void* PyCapsule_GetPointer(object capsule, const char* name) except NULL
    bint PyCapsule_IsValid(object capsule, const char* name)

cdef extern from "bindings/batch_api.h":
    const char* PYINFER_BATCH_API
    ctypedef struct pyinfer_batch_api:
        void* (*handle_of)(object batch) noexcept
        object (*input)(void* handle, Py_ssize_t index, object name)
        int (*respond)(void* handle, Py_ssize_t index, object outputs) except -1
        int (*plain_type)(object array) noexcept

cdef pyinfer_batch_api* core = <pyinfer_batch_api*>PyCapsule_Import(PYINFER_BATCH_API, False)

cdef enum:
    DL_UINT = 1
    DL_BFLOAT = 4
    DL_CPU = 1
    DL_CUDA = 2
    DL_DEFAULT_STREAM = 1


class TritonModelException(Exception):
    """An error that a model raises on purpose, or that these objects raise at a model's mistake."""

    def message(self):
        return str(self)


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


cdef class TritonError:
    """The error of one response: a text and one of Triton's codes."""

    UNKNOWN = ErrorCode.UNKNOWN
    INTERNAL = ErrorCode.INTERNAL
    NOT_FOUND = ErrorCode.NOT_FOUND
    INVALID_ARG = ErrorCode.INVALID_ARG
    UNAVAILABLE = ErrorCode.UNAVAILABLE
    UNSUPPORTED = ErrorCode.UNSUPPORTED
    ALREADY_EXISTS = ErrorCode.ALREADY_EXISTS
    CANCELLED = ErrorCode.CANCELLED

    cdef str _message
    cdef int _code

    def __init__(self, message, code=1):
        if not 0 <= code < len(CODE_NAMES):
            raise TritonModelException(f"unknown error code {code}; use one of TritonError's constants")
        self._message = str(message)
        self._code = code

    def message(self):
        return self._message

    def code(self):
        return ErrorCode(self._code)

    def __str__(self):
        return self._message


cdef tuple CODE_NAMES = (
    "UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED", "ALREADY_EXISTS", "CANCELLED",
)


@cython.freelist(64)
cdef class Tensor:
    """A named array. ``BYTES`` are object arrays of bytes, ``BF16`` are uint16 arrays of the raw bits."""

    cdef str _name
    cdef str _datatype
    # a numpy array; of BYTES also the BytesView of an array that nobody has asked for; the DeviceArray of an input that
    # is on a CUDA device
    cdef object _array

    def __init__(self, str name not None, numpy_array):
        if not isinstance(numpy_array, ndarray):
            raise TritonModelException(
                f"tensor '{name}' needs a numpy.ndarray, found type '{type(numpy_array).__name__}'"
            )
        _check_name(name)
        cdef int plain = core.plain_type(numpy_array)
        if plain != 0:
            datatype = WIRE_NAMES[plain]
        else:
            datatype = WIRE_NAME_OF.get(numpy_array.dtype)
            if datatype is None:
                datatype, numpy_array = _adopt(name, numpy_array)
            if not numpy_array.flags.c_contiguous:
                numpy_array = numpy_array.copy(order="C")
        self._name = name
        self._datatype = datatype
        self._array = numpy_array

    @staticmethod
    def from_dlpack(name, tensor):
        """A tensor from ``tensor``: one with ``__dlpack__`` or a DLPack capsule."""
        return _from_dlpack(name, tensor)

    def name(self):
        return self._name

    def as_numpy(self):
        if isinstance(self._array, ndarray):
            return self._array
        if not self.is_cpu():
            raise TritonModelException("Tensor is stored in GPU and cannot be converted to NumPy.")
        self._array = self._array.numpy()
        return self._array

    def bytes_view(self):
        """The elements of BYTES without an object for each."""
        if self._datatype != "BYTES":
            raise TritonModelException(f"tensor '{self._name}' is no tensor of strings")
        # an array that was handed out may have been changed
        return BytesView(self._array) if isinstance(self._array, ndarray) else self._array

    def triton_dtype(self):
        return NUMBER_OF[self._datatype]

    def shape(self):
        return list(self._array.shape)

    def is_cpu(self):
        return not isinstance(self._array, DeviceArray)

    def to_dlpack(self):
        return self.__dlpack__()

    def __dlpack__(self, stream=None, *, max_version=None, dl_device=None, copy=None):
        if self._datatype == "BYTES":
            raise TritonModelException("DLPack does not have support for string tensors.")
        if not self.is_cpu():
            return self._array.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)
        if dl_device is not None and tuple(dl_device) != (DL_CPU, 0):
            raise BufferError(f"tensor '{self._name}' is in CPU memory")
        array = self._array
        if copy or not array.flags.writeable:
            array = array.copy()
        capsule = array.__dlpack__()
        if self._datatype == "BF16":
            (<pyinfer_dl_tensor*>PyCapsule_GetPointer(capsule, b"dltensor")).dtype.code = DL_BFLOAT
        return capsule

    def __dlpack_device__(self):
        return (DL_CPU, 0) if self.is_cpu() else self._array.__dlpack_device__()

    def __repr__(self):
        return f"Tensor('{self._name}', {self._datatype}, {list(self._array.shape)})"


cdef _check_name(name):
    if not name:
        raise TritonModelException("Tensor name cannot be an empty string.")


cdef tuple _adopt(str name, array):
    """(wire name, array) of an array whose dtype is none of the wire's own."""
    dtype = array.dtype
    if dtype.name == "bfloat16":
        return "BF16", array.view(np.uint16)
    if dtype.kind == "S":
        return "BYTES", array.astype(np.object_)
    native = WIRE_NAME_OF.get(dtype.newbyteorder("="))
    if native is None or dtype.kind == "V":
        raise TritonModelException(
            "Tensor dtype used for numpy_array is not support by Python backend. Please use np.object_ instead."
            if dtype.kind == "U" else f"tensor '{name}' has dtype {dtype.name}, which no Triton data type holds"
        )
    return native, array.astype(dtype.newbyteorder("="))


cdef class _CapsuleProducer:
    """What numpy wants to import from: an object around a capsule."""

    cdef object _capsule

    def __dlpack__(self, **options):
        return self._capsule

    def __dlpack_device__(self):
        return (DL_CPU, 0)


cdef Tensor _from_dlpack(name, tensor):
    _check_name(name)
    capsule = tensor
    if hasattr(tensor, "__dlpack__"):
        # of a CUDA tensor: what is computed on its stream is awaited by the default one, which copies to the host use
        on_cuda = tensor.__dlpack_device__()[0] == DL_CUDA
        capsule = tensor.__dlpack__(stream=DL_DEFAULT_STREAM) if on_cuda else tensor.__dlpack__()
    if not PyCapsule_IsValid(capsule, b"dltensor"):
        raise TritonModelException(
            "Provided tensor is not supported. Tensor must be a DLPack capsule or have `__dlpack__` and "
            "`__dlpack_device__` attributes"
        )
    cdef pyinfer_dl_tensor* described = <pyinfer_dl_tensor*>PyCapsule_GetPointer(capsule, b"dltensor")
    if described.device.device_type != DL_CPU:
        return _from_device(name, capsule)
    cdef bint bfloat = described.dtype.code == DL_BFLOAT and described.dtype.bits == 16
    if bfloat:
        described.dtype.code = DL_UINT
    cdef _CapsuleProducer producer = _CapsuleProducer.__new__(_CapsuleProducer)
    producer._capsule = capsule
    cdef Tensor made = Tensor(name, np.from_dlpack(producer))
    if bfloat:
        made._datatype = "BF16"
    return made


cdef Tensor _from_device(name, capsule):
    try:
        datatype, array = dlpack_to_host(capsule)
    except (RuntimeError, ValueError) as error:
        raise TritonModelException(f"tensor '{name}' can not be copied to the host: {error}") from error
    cdef Tensor made = Tensor(name, array)
    made._datatype = datatype
    return made


cdef class InferenceTrace:
    """The trace that a request belongs to, if it is traced."""

    cdef str _context
    # the core's, for requests that are to belong to it
    cdef object _core

    def get_context(self):
        return self._context


cdef InferenceTrace _trace_of(batch, Py_ssize_t index):
    cdef InferenceTrace trace = InferenceTrace()
    trace._core = batch.trace(index)
    headers = None if trace._core is None else batch.trace_context(index)
    if headers is not None:
        trace._context = json.dumps(headers, separators=(",", ":"))
    return trace


@cython.freelist(64)
cdef class InferenceRequest:
    """One request: of the server (a batch and an index), or made by hand from tensors."""

    cdef object _batch
    cdef void* _handle  # the batch's, valid as long as _batch is there; NULL where that is none of the core's own
    cdef Py_ssize_t _index
    # tensors handed out by name; of a request made by hand: all of them
    cdef dict _tensors
    cdef bint _answered
    cdef str _request_id
    cdef object _correlation_id
    cdef list _requested_output_names
    cdef str _model_name
    cdef long long _model_version
    cdef unsigned int _flags
    cdef bint _has_flags  # they were set by hand
    cdef unsigned long long _timeout
    cdef object _preferred_memory
    cdef object _trace
    cdef str _parameters
    cdef bint _reschedule
    # set once the request is answered by a sender of its own; what it holds was fetched before
    cdef object _responder
    cdef object _parent  # the CallParent of a request that has a responder

    def __init__(
        self, request_id="", correlation_id=0, inputs=(), requested_output_names=(), model_name="", model_version=-1,
        flags=0, timeout=0, preferred_memory=None, trace=None, parameters=None,
    ):
        if not isinstance(correlation_id, (int, str)):
            raise TritonModelException("Correlation ID must be integer or string")
        self._tensors = {}
        for tensor in inputs:
            if not isinstance(tensor, Tensor):
                raise TritonModelException(f"inputs must be Tensor objects, found type '{type(tensor).__name__}'")
            self._tensors[(<Tensor>tensor)._name] = tensor
        self._request_id = request_id
        self._correlation_id = correlation_id
        self._requested_output_names = list(requested_output_names)
        self._model_name = model_name
        self._model_version = model_version
        self._flags = flags
        self._timeout = timeout
        self._preferred_memory = preferred_memory
        if trace is not None and not isinstance(trace, InferenceTrace):
            raise TritonModelException(f"trace must be an InferenceTrace object, found type '{type(trace).__name__}'")
        self._trace = trace
        self._parameters = _parameter_text(parameters)

    cdef object _live(self):
        if self._answered:
            raise TritonModelException("the request was used after it was answered")
        return self._batch

    cdef Tensor _input(self, str name):
        if self._tensors is not None:
            known = self._tensors.get(name)
            if known is not None:
                return <Tensor>known
        if self._live() is None:
            return None
        if self._handle != NULL:
            found = core.input(self._handle, self._index, name)
        else:
            found = self._batch.input(self._index, name, True)
        if found is None:
            return None
        cdef Tensor tensor = Tensor.__new__(Tensor)
        tensor._name = name
        tensor._datatype = <str>(<tuple>found)[0]
        tensor._array = (<tuple>found)[1]
        if self._tensors is None:
            self._tensors = {}
        self._tensors[name] = tensor
        return tensor

    def input(self, str name):
        """The input of that name, or None."""
        return self._input(name)

    def inputs(self):
        if self._live() is None:
            return list(self._tensors.values())
        return [self._input(name) for name in self._batch.input_names(self._index)]

    def request_id(self):
        return self._request_id if self._live() is None else self._batch.request_id(self._index)

    def correlation_id(self):
        return self._correlation_id if self._live() is None else self._batch.correlation_id(self._index)

    def flags(self):
        return self._flags if self._has_flags or self._live() is None else self._batch.flags(self._index)

    def set_flags(self, flags):
        """Of a request of the server, only what :meth:`flags` returns is changed."""
        self._flags = flags
        self._has_flags = True

    def timeout(self):
        """In microseconds; 0 where the client gave none."""
        return self._timeout if self._live() is None else self._batch.timeout_us(self._index)

    def model_name(self):
        return self._model_name or ""

    def model_version(self):
        return self._model_version

    def preferred_memory(self):
        return self._preferred_memory

    def trace(self):
        if self._trace is None:
            self._trace = InferenceTrace() if self._live() is None else _trace_of(self._batch, self._index)
        return self._trace

    def parameters(self):
        """The custom parameters as JSON text."""
        return self._parameters if self._live() is None else json.dumps(self._batch.parameters(self._index))

    def requested_output_names(self):
        return set(self._requested_output_names if self._live() is None else self._batch.requested_outputs(self._index))

    def is_cancelled(self):
        if self._responder is not None:
            return self._responder.is_cancelled()
        return False if self._live() is None else self._batch.is_cancelled(self._index)

    def set_release_flags(self, flags):
        """TRITONSERVER_REQUEST_RELEASE_ALL, or _RESCHEDULE: execute the request once more, in a later batch."""
        if flags == 2 and self._responder is None and self._live() is None:
            raise TritonModelException("a request that the model has made itself can not be rescheduled")
        self._reschedule = flags == 2

    def get_response_sender(self):
        """What answers this request, now or later, from any thread; execute then returns nothing for it."""
        if self._responder is None:
            if self._live() is None:
                raise TritonModelException("a request that the model has made itself has no response sender")
            self._detach()
        return InferenceResponseSender(self._responder)

    cdef _detach(self):
        # The batch knows nothing of the request afterwards, and the model may still ask.
        self.inputs()
        self._request_id = self.request_id()
        self._correlation_id = self.correlation_id()
        self._requested_output_names = self._batch.requested_outputs(self._index)
        self._flags = self.flags()
        self._timeout = self.timeout()
        if self._trace is None and self._batch.trace(self._index) is not None:
            self._trace = _trace_of(self._batch, self._index)
        self._parameters = self.parameters()
        self._parent = self._batch.call_parent(self._index)
        self._responder = self._batch.detach(self._index)
        self._batch = None
        if self._tensors is None:
            self._tensors = {}

    def exec(self, decoupled=False):
        """Call the model that the request names: an InferenceResponse, or an iterator over them; see ``calls``."""
        cdef CallScope scope = current_scope()
        if decoupled:
            return _calls().ResponseIterator(start_call(self, scope, True, waits=True))
        return _exec_call(self, scope)

    def async_exec(self, decoupled=False):
        """As ``exec``, but a future of it, for tasks of an event loop."""
        return _calls().execute_async(self, bool(decoupled))


cdef class CallScope:
    """On whose behalf the code of this thread or task calls: of ``requests``, while their batch lasts of ``batch``."""

    cdef readonly object engine
    cdef object batch
    cdef list requests
    cdef public bint runs_callees

    def __init__(self, engine, list requests=None):
        self.engine = engine
        self.requests = [] if requests is None else requests

    def enter(self):
        """For this thread, or this task and those that it starts."""
        _scope.set(self)


cdef object _scope = ContextVar("pyinfer_call_scope")


cpdef CallScope current_scope():
    """That of the code that asks."""
    scope = get_value(_scope)
    return <CallScope>(_calls().scope_outside() if scope is None else scope)


cdef object _running_loop = None  # what asyncio tells the loop of this thread by, once somebody has imported it


cdef bint _loop_runs():
    # whether the code of another model would find a loop that runs on this thread
    global _running_loop
    if _running_loop is None:
        events = sys.modules.get("asyncio.events")
        if events is None:
            return False
        _running_loop = events._get_running_loop
    return _running_loop() is not None


cdef object _calls_module = None


cdef _calls():
    # which imports this module
    global _calls_module
    if _calls_module is None:
        from pyinfer.backends.python import calls
        _calls_module = calls
    return _calls_module


@cython.freelist(64)
cdef class InferenceResponse:
    """The answer to one request: output tensors, or an error."""

    cdef list _outputs
    cdef TritonError _error
    cdef dict _parameters

    def __init__(self, output_tensors=(), TritonError error=None, parameters=None):
        self._outputs = list(output_tensors)
        for tensor in self._outputs:
            if not isinstance(tensor, Tensor):
                raise TritonModelException(
                    f"output_tensors must be Tensor objects, found type '{type(tensor).__name__}'"
                )
        self._error = error
        if parameters is not None:
            self._parameters = json.loads(_parameter_text(parameters))

    def output_tensors(self):
        return self._outputs

    def has_error(self):
        return self._error is not None

    def error(self):
        return self._error

    def parameters(self):
        """The response's parameters as JSON text."""
        return json.dumps(self._parameters or {})


def get_input_tensor_by_name(InferenceRequest inference_request not None, str name not None):
    """The request's input ``name``, or None."""
    return inference_request._input(name)


def get_output_tensor_by_name(InferenceResponse inference_response not None, str name not None):
    """The response's output ``name``, or None."""
    cdef Tensor tensor
    for tensor in inference_response._outputs:
        if tensor._name == name:
            return tensor
    return None


cdef str _parameter_text(parameters):
    if parameters is None:
        return "{}"
    if isinstance(parameters, str):
        parameters = json.loads(parameters)
    if not isinstance(parameters, dict):
        raise TritonModelException(f"parameters must be a dict, found type '{type(parameters).__name__}'")
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TritonModelException(f"Expect parameters keys to have type str, found type {type(key)}")
        if not isinstance(value, (bool, int, float, str)):
            raise TritonModelException(
                f"Expect parameters values to have type bool/int/str, found type {type(value)}"
            )
    return json.dumps(parameters)


def start_call(InferenceRequest request not None, CallScope scope not None, bint decoupled, *, bint waits):
    """The ModelCall of a request that was made by hand. ``scope`` tells on whose behalf it is made."""
    _check_made_by_hand(request)
    cdef InferenceTrace trace = request._trace
    return ModelCall(
        scope.engine, request._model_name, request._model_version, _call_inputs(request), request_id=request._request_id,
        correlation_id=request._correlation_id, flags=request._flags, timeout_us=request._timeout,
        parameters=_call_parameters(request), outputs=request._requested_output_names, batch=scope.batch,
        parents=_parents(scope.requests),
        trace=None if trace is None else trace._core, decoupled=decoupled, waits=waits,
    )


cdef InferenceResponse _exec_call(InferenceRequest request, CallScope scope):
    """As :func:`start_call` of a model that is not decoupled, and its response, which is waited for."""
    _check_made_by_hand(request)
    cdef InferenceTrace trace = request._trace
    return response_of(core_exec_call(
        scope.engine, request._model_name, request._model_version, _call_inputs(request), request._request_id,
        request._correlation_id, request._flags, request._timeout, _call_parameters(request),
        request._requested_output_names, scope.batch, _parents(scope.requests),
        None if trace is None else trace._core, scope.runs_callees and not _loop_runs(),
    ))


cdef _check_made_by_hand(InferenceRequest request):
    if request._batch is not None or request._responder is not None or request._answered:
        raise TritonModelException("a request of the server can not be executed: make an InferenceRequest of its inputs")


cdef list _call_inputs(InferenceRequest request):
    cdef Tensor tensor
    cdef list inputs = []
    for tensor in request._tensors.values():
        inputs.append(_described(tensor))
    return inputs


cdef _call_parameters(InferenceRequest request):
    return None if request._parameters == "{}" else json.loads(request._parameters)


cdef _parents(list requests):
    """Those of the requests that are not answered with their batch."""
    cdef InferenceRequest request
    cdef list found = None
    for request in requests:
        if request._parent is not None:
            if found is None:
                found = []
            found.append(request._parent)
    return () if found is None else found


cpdef InferenceResponse response_of(tuple item):
    """The InferenceResponse of what a ModelCall has returned."""
    cdef InferenceResponse response = InferenceResponse.__new__(InferenceResponse)
    cdef Tensor tensor
    response._outputs = []
    for name, datatype, array in <list>item[0]:
        tensor = Tensor.__new__(Tensor)
        tensor._name = name
        tensor._datatype = datatype
        tensor._array = array
        response._outputs.append(tensor)
    if item[1] is not None:
        code, text = <tuple>item[1]
        response._error = TritonError(text, CODE_NAMES.index(code) if code in CODE_NAMES else 0)
    response._parameters = item[2]
    return response


cdef class InferenceResponseSender:
    """Sends the responses to one request. Any thread."""

    cdef object _responder
    cdef Py_ssize_t _sent
    cdef bint _closed

    def __init__(self, responder):
        self._responder = responder

    def send(self, response=None, flags=0):
        """Send a response; with ``flags`` TRITONSERVER_RESPONSE_COMPLETE_FINAL it is the last (or there is none)."""
        if flags not in (0, 1):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and flags == 0:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        if response is not None and not isinstance(response, InferenceResponse):
            raise TritonModelException(f"Expected an 'InferenceResponse' object, found type '{type(response).__name__}'")
        cdef bint decoupled = self._responder.decoupled
        if self._closed or (decoupled and self._responder.ended):
            raise TritonModelException("Unable to send response. Response sender has been closed.")
        if not decoupled:
            if response is not None and self._sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send more than one response."
                )
            if response is None and not self._sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send complete final before sending a response."
                )
        self._closed = flags == 1
        if response is None:
            if decoupled:
                self._responder.end()
            return
        self._sent += 1
        # the one response of a model that is not decoupled ends its request, whether or not it says so
        _send(self._responder, <InferenceResponse>response, self._closed or not decoupled)

    def is_cancelled(self):
        return self._responder.is_cancelled()


cdef _send(responder, InferenceResponse response, bint final):
    if response._error is not None:
        responder.fail(CODE_NAMES[response._error._code], response._error._message, final=final)
    else:
        responder.send(_outputs(response), response._parameters, final=final)


cpdef list requests_of(batch):
    """One request object for each request of ``batch``."""
    cdef Py_ssize_t index
    cdef InferenceRequest request
    cdef list requests = []
    cdef void* handle = core.handle_of(batch)
    for index in range(len(batch)):
        request = InferenceRequest.__new__(InferenceRequest)
        request._batch = batch
        request._handle = handle
        request._index = index
        requests.append(request)
    return requests


def execute_batch(batch, CallScope scope, execute, bint decoupled, str model, told, fail):
    """Have ``execute``, the code of ``model``, answer the requests of ``batch``, on behalf of which ``scope`` calls.

    What it raises ``told`` makes a text of. ``fail`` is called with the batch, its requests and the text of what was
    wrong.
    """
    cdef list requests = requests_of(batch)
    if scope is not None:
        scope.batch = batch
        scope.requests = requests
    try:
        # The model gets a list of its own: it may empty it, and the requests must still be cut off at the end.
        returned = execute(requests[:])
        if decoupled:
            fault = _answer_decoupled(batch, requests, model, returned)
        else:
            fault = _answer(batch, requests, returned)
    except BaseException as error:  # sys.exit() in a model must not end the instance
        fault = told(error)
    if fault is not None:
        fail(batch, requests, fault)
    _release(requests)
    if scope is not None:
        scope.batch = None
        scope.requests = []


cdef _release(list requests):
    """Cut the requests off their batch, whose memory ends with it: a model that kept one gets an error, not a crash."""
    cdef InferenceRequest request
    for request in requests:
        request._answered = request._responder is None
        request._batch = None


cdef _answer(batch, list requests, responses):
    """Answer the requests that have no sender; returns the text of what is wrong with ``responses``, having answered none."""
    cdef Py_ssize_t index, count = len(requests)
    if not isinstance(responses, list):
        return f"Expected a list in the execute return, found type '{type(responses)}'."
    if len(<list>responses) != count:
        return (
            "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
            f"InferenceRequest(s) size is:{count}, and InferenceResponse(s) size is:{len(responses)}\n"
        )
    for index in range(count):
        entry = (<list>responses)[index]
        if (<InferenceRequest>requests[index])._reschedule:
            if entry is None:
                continue
            # the spelling is in the message that authors of models know
            return (
                "Expected a None object in the execute function return list for reschduled request, "
                f"found type '{type(entry)}'."
            )
        if entry is None and (<InferenceRequest>requests[index])._responder is not None:
            continue
        if not isinstance(entry, InferenceResponse):
            return (
                "Expected an 'InferenceResponse' object in the execute function return list, "
                f"found type '{type(entry)}'."
            )
    for index in range(count):
        entry = (<list>responses)[index]
        if (<InferenceRequest>requests[index])._reschedule:
            _reschedule_one(batch, index, <InferenceRequest>requests[index])
        elif entry is not None:
            _answer_one(batch, index, <InferenceRequest>requests[index], <InferenceResponse>entry)
    return None


cdef _answer_decoupled(batch, list requests, str name, responses):
    """Reschedule what ``execute`` asked to; the text of what is wrong with what it returned, None if nothing is."""
    cdef Py_ssize_t index
    cdef InferenceRequest request
    fault = decoupled_fault(name, responses)
    if fault is not None:
        return fault
    for index, request in enumerate(requests):
        if request._reschedule:
            _reschedule_one(batch, index, request)
    return None


def decoupled_fault(str name, responses):
    """The text of what is wrong with what ``execute`` of a decoupled model returned, None if nothing is."""
    if responses is None:
        return None
    return f"Python model '{name}' is using the decoupled mode and the execute function must return None."


cdef _reschedule_one(batch, Py_ssize_t index, InferenceRequest request):
    try:
        batch.reschedule(index, request._responder)
    except RuntimeError as error:
        if request._responder is not None:
            request._responder.fail("INVALID_ARG", str(error), final=True)
        else:
            batch.fail(index, "INVALID_ARG", str(error))


def fail_all(batch, list requests not None, str code, str message):
    """Answer every request that is not ended with an error, also those that have a sender."""
    cdef Py_ssize_t index
    cdef InferenceRequest request
    for index, request in enumerate(requests):
        if request._responder is not None:
            request._responder.fail(code, message, final=True)
        else:
            batch.fail(index, code, message)


cdef _answer_one(batch, Py_ssize_t index, InferenceRequest request, InferenceResponse response):
    if request._responder is not None:
        # answered by its sender as well: the first answer counts
        if not request._responder.ended:
            _send(request._responder, response, True)
        return
    try:
        if response._error is not None:
            batch.fail(index, CODE_NAMES[response._error._code], response._error._message)
        elif response._parameters is not None:
            batch.respond(index, _outputs(response), response._parameters)
        elif request._handle != NULL:
            core.respond(request._handle, index, _outputs(response))
        else:
            batch.respond(index, _outputs(response))
    except Exception as error:
        batch.fail(index, "INTERNAL", f"{type(error).__name__}: {error}")


cdef list _outputs(InferenceResponse response):
    cdef Tensor tensor
    cdef list outputs = []
    for tensor in response._outputs:
        outputs.append(_described(tensor))
    return outputs


cdef tuple _described(Tensor tensor):
    """(name, datatype, array or BytesView), as the core takes tensors."""
    array = tensor._array.to_host() if isinstance(tensor._array, DeviceArray) else tensor._array
    return (tensor._name, tensor._datatype, array)
