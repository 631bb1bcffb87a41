# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, embedsignature=False
"""The objects of the Python backend that exist once per request: compiled, because their creation is the cost.

Longer than 400 lines: the classes reach into each other's fields, which Cython allows within one module.

``Tensor``, ``InferenceRequest``, ``InferenceResponse`` and ``TritonError`` as ``model.py`` sees them, and the three
functions that lead from a batch to requests and back. A request of the server holds nothing but the batch and its
index: a tensor is fetched when it is asked for. Not here: loading models (``backend``), helpers for users (``utils``).
"""

import json

cimport cython
import numpy as np

__all__ = [
    "InferenceRequest",
    "InferenceResponse",
    "Tensor",
    "TritonError",
    "TritonModelException",
    "answer",
    "release",
    "requests_of",
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
    void* PyCapsule_GetPointer(object capsule, const char* name) except NULL
    bint PyCapsule_IsValid(object capsule, const char* name)

cdef enum:
    DL_UINT = 1
    DL_BFLOAT = 4
    DL_CPU = 1


class TritonModelException(Exception):
    """An error that a model raises on purpose, or that these objects raise at a model's mistake."""

    def message(self):
        return str(self)


cdef class TritonError:
    """The error of one response: a text and one of Triton's codes."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7

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
        return self._code

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
    cdef object _array

    def __init__(self, str name not None, numpy_array):
        if not isinstance(numpy_array, ndarray):
            raise TritonModelException(
                f"tensor '{name}' needs a numpy.ndarray, found type '{type(numpy_array).__name__}'"
            )
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
        """A tensor that shares the memory of ``tensor``: one with ``__dlpack__`` or a DLPack capsule, on the CPU."""
        return _from_dlpack(name, tensor)

    def name(self):
        return self._name

    def as_numpy(self):
        return self._array

    def triton_dtype(self):
        return NUMBER_OF[self._datatype]

    def shape(self):
        return list(self._array.shape)

    def is_cpu(self):
        return True

    def to_dlpack(self):
        return self.__dlpack__()

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if self._datatype == "BYTES":
            raise TritonModelException("DLPack does not have support for string tensors.")
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
        return (DL_CPU, 0)

    def __repr__(self):
        return f"Tensor('{self._name}', {self._datatype}, {list(self._array.shape)})"


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
    capsule = tensor
    if hasattr(tensor, "__dlpack__"):
        if tensor.__dlpack_device__()[0] != DL_CPU:
            raise TritonModelException(f"tensor '{name}' is not in CPU memory; move it there before from_dlpack")
        capsule = tensor.__dlpack__()
    if not PyCapsule_IsValid(capsule, b"dltensor"):
        raise TritonModelException(
            "Provided tensor is not supported. Tensor must be a DLPack capsule or have `__dlpack__` and "
            "`__dlpack_device__` attributes"
        )
    cdef pyinfer_dl_tensor* described = <pyinfer_dl_tensor*>PyCapsule_GetPointer(capsule, b"dltensor")
    if described.device.device_type != DL_CPU:
        raise TritonModelException(f"tensor '{name}' is not in CPU memory; move it there before from_dlpack")
    cdef bint bfloat = described.dtype.code == DL_BFLOAT and described.dtype.bits == 16
    if bfloat:
        described.dtype.code = DL_UINT
    cdef _CapsuleProducer producer = _CapsuleProducer.__new__(_CapsuleProducer)
    producer._capsule = capsule
    cdef Tensor made = Tensor(name, np.from_dlpack(producer))
    if bfloat:
        made._datatype = "BF16"
    return made


@cython.freelist(64)
cdef class InferenceRequest:
    """One request: of the server (a batch and an index), or made by hand from tensors."""

    cdef object _batch
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
    cdef unsigned long long _timeout
    cdef object _preferred_memory
    cdef object _trace
    cdef str _parameters

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
            self._tensors[tensor.name()] = tensor
        self._request_id = request_id
        self._correlation_id = correlation_id
        self._requested_output_names = list(requested_output_names)
        self._model_name = model_name
        self._model_version = model_version
        self._flags = flags
        self._timeout = timeout
        self._preferred_memory = preferred_memory
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
        found = self._batch.input(self._index, name)
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
        return 0 if self._correlation_id is None else self._correlation_id

    def flags(self):
        return self._flags

    def set_flags(self, flags):
        self._flags = flags

    def timeout(self):
        return self._timeout

    def model_name(self):
        return self._model_name or ""

    def model_version(self):
        return self._model_version

    def preferred_memory(self):
        return self._preferred_memory

    def trace(self):
        return self._trace

    def parameters(self):
        """The custom parameters as JSON text."""
        return self._parameters if self._live() is None else json.dumps(self._batch.parameters(self._index))

    def requested_output_names(self):
        if self._live() is None:
            return self._requested_output_names
        return self._batch.requested_outputs(self._index)

    def is_cancelled(self):
        return False if self._live() is None else self._batch.is_cancelled(self._index)

    def set_release_flags(self, flags):
        if flags != 1:
            raise TritonModelException("rescheduling a request is not supported: use TRITONSERVER_REQUEST_RELEASE_ALL")

    def get_response_sender(self):
        raise TritonModelException("response senders are not supported: return the responses from execute")

    def exec(self, decoupled=False):
        raise TritonModelException("a model can not call another model (BLS): this is not supported")

    def async_exec(self, decoupled=False):
        raise TritonModelException("a model can not call another model (BLS): this is not supported")


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


cdef str _parameter_text(parameters):
    if parameters is None:
        return "{}"
    if isinstance(parameters, str):
        parameters = json.loads(parameters)
    if not isinstance(parameters, dict):
        raise TritonModelException(f"parameters must be a dict, found type '{type(parameters).__name__}'")
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TritonModelException(f"Expect parameters keys to have type str, found type '{type(key).__name__}'")
        if not isinstance(value, (bool, int, float, str)):
            raise TritonModelException(
                f"Expect parameters values to have type bool/int/float/str, found type '{type(value).__name__}'"
            )
    return json.dumps(parameters)


def requests_of(batch):
    """One request object for each request of ``batch``."""
    cdef Py_ssize_t index
    cdef InferenceRequest request
    cdef list requests = []
    for index in range(len(batch)):
        request = InferenceRequest.__new__(InferenceRequest)
        request._batch = batch
        request._index = index
        requests.append(request)
    return requests


def release(list requests not None):
    """Cut the requests off their batch, whose memory ends with it: a model that kept one gets an error, not a crash."""
    cdef InferenceRequest request
    for request in requests:
        request._answered = True
        request._batch = None


def answer(batch, responses):
    """Answer all requests of ``batch``; returns the text of what is wrong with ``responses``, having answered none."""
    cdef Py_ssize_t index, count = len(batch)
    if not isinstance(responses, list):
        return f"Expected a list in the execute return, found type '{type(responses)}'."
    if len(<list>responses) != count:
        return (
            "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
            f"InferenceRequest(s) size is:{count}, and InferenceResponse(s) size is:{len(responses)}\n"
        )
    for entry in <list>responses:
        if not isinstance(entry, InferenceResponse):
            return (
                "Expected an 'InferenceResponse' object in the execute function return list, "
                f"found type '{type(entry)}'."
            )
    for index in range(count):
        try:
            _answer_one(batch, index, <InferenceResponse>(<list>responses)[index])
        except Exception as error:
            batch.fail(index, "INTERNAL", f"{type(error).__name__}: {error}")
    return None


cdef _answer_one(batch, Py_ssize_t index, InferenceResponse response):
    cdef Tensor tensor
    cdef list outputs
    if response._error is not None:
        batch.fail(index, CODE_NAMES[response._error._code], response._error._message)
        return
    outputs = []
    for tensor in response._outputs:
        outputs.append((tensor._name, tensor._datatype, tensor._array))
    if response._parameters is None:
        batch.respond(index, outputs)
    else:
        batch.respond(index, outputs, response._parameters)
