# SPDX-License-Identifier: Apache-2.0
"""What ``model.py`` imports as ``triton_python_backend_utils``, inside the server and outside of it.

Names and behaviour are Triton's. The classes that exist once per request are compiled (``_objects``); this module adds
the helpers around them.
"""

from __future__ import annotations

import logging
import os
import struct
import sys
from collections.abc import Mapping
from enum import IntEnum
from types import FrameType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyinfer.backends.python._objects import (
    InferenceRequest,
    InferenceResponse,
    InferenceResponseSender,
    InferenceTrace,
    Tensor,
    TritonError,
    TritonModelException,
    get_input_tensor_by_name,
    get_output_tensor_by_name,
)
from pyinfer.backends.python.autocomplete import ModelConfig
from pyinfer.backends.python.calls import ResponseIterator, control_of, made
from pyinfer.backends.python.imports import giving_way, loaded_directories
from pyinfer.backends.python.metrics import Metric, MetricFamily, failed
from pyinfer.errors import InvalidArgument, PyinferError

__all__ = [
    "TRITONSERVER_MEMORY_CPU",
    "TRITONSERVER_MEMORY_GPU",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START",
    "TRITONSERVER_REQUEST_RELEASE_ALL",
    "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL",
    "TRITON_STRING_TO_NUMPY",
    "InferenceRequest",
    "InferenceResponse",
    "InferenceResponseSender",
    "InferenceTrace",
    "Logger",
    "MemoryType",
    "Metric",
    "MetricFamily",
    "ModelConfig",
    "PreferredMemory",
    "ResponseIterator",
    "Tensor",
    "TritonError",
    "TritonModelException",
    "deserialize_bytes_tensor",
    "get_input_config_by_name",
    "get_input_tensor_by_name",
    "get_model_dir",
    "get_output_config_by_name",
    "get_output_tensor_by_name",
    "is_model_ready",
    "load_model",
    "numpy_to_triton_type",
    "serialize_byte_tensor",
    "triton_string_to_numpy",
    "triton_to_numpy_type",
    "unload_model",
    "using_decoupled_model_transaction_policy",
]

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2


class MemoryType(IntEnum):
    """Where memory is, with Triton's numbers."""

    TRITONSERVER_MEMORY_GPU = 0
    TRITONSERVER_MEMORY_CPU = 1


TRITONSERVER_MEMORY_CPU = MemoryType.TRITONSERVER_MEMORY_CPU
TRITONSERVER_MEMORY_GPU = MemoryType.TRITONSERVER_MEMORY_GPU

#: configuration name -> numpy type; TYPE_BF16 has none
TRITON_STRING_TO_NUMPY: dict[str, type[Any]] = {
    "TYPE_BOOL": bool,
    "TYPE_UINT8": np.uint8,
    "TYPE_UINT16": np.uint16,
    "TYPE_UINT32": np.uint32,
    "TYPE_UINT64": np.uint64,
    "TYPE_INT8": np.int8,
    "TYPE_INT16": np.int16,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP32": np.float32,
    "TYPE_FP64": np.float64,
    "TYPE_STRING": np.object_,
}
# Triton numbers its data types in exactly this order, from 1.
_NUMPY_BY_NUMBER: dict[int, type[Any]] = dict(
    enumerate((np.bool_, *list(TRITON_STRING_TO_NUMPY.values())[1:]), start=1)
)
_NUMBER_BY_NUMPY = {np.dtype(kind): number for number, kind in _NUMPY_BY_NUMBER.items()}


def get_input_config_by_name(model_config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The entry of ``input`` of a model configuration that has ``name``, or None."""
    return next((entry for entry in model_config.get("input", ()) if entry["name"] == name), None)


def get_output_config_by_name(model_config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The entry of ``output`` of a model configuration that has ``name``, or None."""
    return next((entry for entry in model_config.get("output", ()) if entry["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: Mapping[str, Any]) -> bool:
    """Whether the configuration declares the model decoupled."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def triton_to_numpy_type(data_type: int) -> type[Any] | None:
    """The numpy type of Triton's data type number; None for one that numpy does not have."""
    return _NUMPY_BY_NUMBER.get(data_type)


def numpy_to_triton_type(data_type: DTypeLike) -> int | None:
    """Triton's number of a numpy type; None for one that Triton does not have. Fixed-length bytes are BYTES."""
    dtype = np.dtype(data_type)
    return _NUMBER_BY_NUMPY[np.dtype(np.object_)] if dtype.kind == "S" else _NUMBER_BY_NUMPY.get(dtype)


def triton_string_to_numpy(triton_type_string: str) -> type[Any]:
    """The numpy type of ``TYPE_FP32`` and its kind. Raises KeyError for one that numpy does not have."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def load_model(model_name: str, config: str = "", files: Mapping[str, bytes] | None = None) -> None:
    """Load or reload a model, as a client does: needs ``--model-control-mode=explicit``.

    ``config`` is the text of a configuration in JSON form, ``files`` has ``file:<version>/<path>`` -> contents. Raises
    TritonModelException with the reason why the model could not be loaded; it is then served as before.
    """
    if files is not None and not isinstance(files, Mapping):
        raise TritonModelException(
            f"failed to load model '{model_name}', files should be a dictionary of file paths and file contents"
        )
    parameters: dict[str, Any] = {**({"config": config} if config else {}), **(files or {})}
    try:
        with giving_way():
            control_of(model_name).load_model(model_name, parameters, asking=made())
    except PyinferError as error:
        raise failed("Failed to load model", str(error)) from None


def unload_model(model_name: str, unload_dependents: bool = False) -> None:
    """Unload a model, as a client does. Raises TritonModelException with the reason why not."""
    try:
        with giving_way():
            control_of(model_name).unload_model(model_name, unload_dependents, asking=made())
    except PyinferError as error:
        raise failed("Failed to unload model", str(error)) from None


def is_model_ready(model_name: str, model_version: str = "") -> bool:
    """Whether a model answers requests; False as well where there is none of that name.

    Raises TritonModelException for a version that is no number.
    """
    try:
        return control_of("").model_ready(model_name, model_version)
    except InvalidArgument as error:
        raise failed("Failed to check model readiness", str(error)) from None
    except PyinferError:
        return False


def get_model_dir() -> str:
    """The directory of the version whose code calls this: where its ``model.py`` is.

    Raises TritonModelException where no loaded model has called, directly or through others.
    """
    frame: FrameType | None = sys._getframe(1)
    directories = loaded_directories()
    while frame is not None:
        file = os.path.realpath(frame.f_code.co_filename)
        found = next((directory for directory in directories if file.startswith(f"{directory}/")), None)
        if found is not None:
            return found
        frame = frame.f_back
    raise TritonModelException("only the code of a loaded model has a model directory")


def serialize_byte_tensor(input_tensor: NDArray[Any]) -> bytes | None:
    """Each element as its length (4 bytes, little-endian) and its bytes, in row-major order; empty for an empty tensor.

    Elements that are not bytes are converted by ``str`` to UTF-8. None where the tensor holds neither objects nor
    bytes.
    """
    if input_tensor.dtype.kind not in "OS":
        return None
    parts: list[bytes] = []
    for element in input_tensor.ravel().tolist():
        data = element if isinstance(element, bytes) else str(element).encode()
        parts += (struct.pack("<I", len(data)), data)
    return b"".join(parts)


def deserialize_bytes_tensor(encoded_tensor: bytes) -> NDArray[np.object_]:
    """The object array [elements] of what :func:`serialize_byte_tensor` made.

    Raises ValueError where it is cut short.
    """
    elements = []
    offset, end = 0, len(encoded_tensor)
    while offset < end:
        if end - offset < 4:
            raise ValueError(f"the length at byte {offset} is cut short")
        (size,) = struct.unpack_from("<I", encoded_tensor, offset)
        offset += 4
        if size > end - offset:
            raise ValueError(f"the element at byte {offset} has {end - offset} of its {size} bytes")
        elements.append(bytes(encoded_tensor[offset : offset + size]))
        offset += size
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array


class PreferredMemory:
    """Where the caller of another model wants its outputs. Kept, and without effect: all memory is the CPU's."""

    def __init__(self, preferred_memory_type: MemoryType, preferred_device_id: int = 0) -> None:
        self.preferred_memory_type = preferred_memory_type
        self.preferred_device_id = preferred_device_id


class Logger:
    """The server's log, as the logger ``pyinfer.model``. Any thread."""

    class LogLevel(IntEnum):
        """How important a line is, with Triton's numbers."""

        INFO = 0
        WARNING = 1
        ERROR = 2
        VERBOSE = 3

    INFO: ClassVar[LogLevel] = LogLevel.INFO
    WARNING: ClassVar[LogLevel] = LogLevel.WARNING
    ERROR: ClassVar[LogLevel] = LogLevel.ERROR
    VERBOSE: ClassVar[LogLevel] = LogLevel.VERBOSE

    _logger: ClassVar[logging.Logger] = logging.getLogger("pyinfer.model")
    _levels: ClassVar[tuple[int, ...]] = (logging.INFO, logging.WARNING, logging.ERROR, logging.DEBUG)

    @classmethod
    def log(cls, message: str, level: LogLevel = LogLevel.INFO) -> None:
        cls._logger.log(cls._levels[level], "%s", message)

    @classmethod
    def log_info(cls, message: str) -> None:
        cls._logger.info("%s", message)

    @classmethod
    def log_warn(cls, message: str) -> None:
        cls._logger.warning("%s", message)

    @classmethod
    def log_error(cls, message: str) -> None:
        cls._logger.error("%s", message)

    @classmethod
    def log_verbose(cls, message: str) -> None:
        cls._logger.debug("%s", message)
