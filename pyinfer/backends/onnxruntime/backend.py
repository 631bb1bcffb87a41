# SPDX-License-Identifier: Apache-2.0
"""Runs ONNX models.

One session for each model version, shared by its instances: runs are thread safe, weights exist once. I/O binding is
not used: on the CPU it costs a microsecond or more a tensor, and returns outputs by a copy that a plain run does not
make.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from pyinfer.backends.base import Backend, Instance, InstanceContext, ModelContext
from pyinfer.backends.onnxruntime.external import check_external_data
from pyinfer.backends.onnxruntime.options import ARENA_SHRINKAGE, execution_providers, session_options
from pyinfer.backends.onnxruntime.signature import (
    Signature,
    TensorInfo,
    check,
    complete,
    model_inputs,
    model_outputs,
)
from pyinfer.backends.paths import lowest_version, model_file, without_paths
from pyinfer.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from pyinfer._core import Batch

__all__ = ["OnnxRuntimeBackend"]

_FILE = "model.onnx"
_DEFAULT_MAX_BATCH_SIZE = "4"

_ONNX_TYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "bfloat16": "BF16",
    "string": "STRING",
}
_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16
_RUNTIME_ERROR = re.compile(r"\[ONNXRuntimeError\] : (\d+) : \w+ : (.*)", re.DOTALL)


class OnnxRuntimeBackend(Backend):
    """One loaded ONNX model.

    Raises ModelError where the file is missing or broken, ConfigError where it is another's.
    """

    default_cpu_instances = 2

    def __init__(self, model: ModelContext) -> None:
        super().__init__(model)
        if model.config.get("model_operations", {}).get("op_library_filename"):
            raise ModelError(f"model '{model.name}': custom operator libraries (model_operations) are not supported")
        file = _located(model.directory, model.version, model.config)
        session = _open(file, model.directory, session_options(model), execution_providers(model))
        check(model.config, _signature(session), model.name)
        self._session = session

    @classmethod
    def auto_complete(cls, directory: Path, config: dict[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
        version = lowest_version(directory)
        if version is None:
            return config
        name = str(config.get("name") or directory.name)
        size = options.get("default-max-batch-size", _DEFAULT_MAX_BATCH_SIZE)
        if not (size.isascii() and size.isdigit()):
            raise ConfigError(f"backend option default-max-batch-size must be a whole number, got '{size}'")
        quick = onnxruntime.SessionOptions()
        quick.log_severity_level = 3
        quick.intra_op_num_threads = 1
        quick.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = _open(_located(directory, version, config), directory, quick, [("CPUExecutionProvider", {})])
        return complete(config, _signature(session), name, int(size))

    def make_instance(self, instance: InstanceContext) -> Instance:
        return _OnnxInstance(self._session, self.model)

    def close(self) -> None:
        del self._session


class _OnnxInstance:
    """Runs batches on the shared session."""

    def __init__(self, session: onnxruntime.InferenceSession, model: ModelContext) -> None:
        self._session = session
        inputs, outputs = model_inputs(model.config), model_outputs(model.config)
        self._outputs = [str(entry["name"]) for entry in outputs]
        types = {entry["name"]: str(entry["data_type"])[5:] for entry in (*inputs, *outputs)}
        self._output_types = {name: "BYTES" if types[name] == "STRING" else types[name] for name in self._outputs}
        self._text = [entry["name"] for entry in inputs if entry["data_type"] == "TYPE_STRING"]
        self._has_bf16 = "BF16" in types.values()
        self._bf16 = [entry["name"] for entry in inputs if entry["data_type"] == "TYPE_BF16"]
        self._run_options: onnxruntime.RunOptions | None = None
        shrinkage = model.parameter(ARENA_SHRINKAGE)
        if shrinkage:
            self._run_options = onnxruntime.RunOptions()
            self._run_options.add_run_config_entry(ARENA_SHRINKAGE, shrinkage)

    def execute(self, batch: Batch) -> None:
        feeds = batch.packed()
        if self._text:
            try:
                feeds = self._decoded(feeds)
            except UnicodeDecodeError:
                self._execute_singly(batch)
                return
        batch.respond_packed(self._run(feeds))

    def close(self) -> None:
        del self._session

    def _execute_singly(self, batch: Batch) -> None:
        """Answer each request by a run of its own, so that text that is not UTF-8 fails only its own request."""
        for index in range(len(batch)):
            found = {name: batch.input(index, name) for name in batch.input_names(index)}
            try:
                feeds = self._decoded({name: pair[1] for name, pair in found.items() if pair is not None})
            except UnicodeDecodeError as error:
                batch.fail(index, "INVALID_ARG", f"ONNX Runtime takes strings in UTF-8 only: {error}")
                continue
            outputs = self._run(feeds)
            batch.respond(index, [(name, self._output_types[name], array) for name, array in outputs.items()])

    def _decoded(self, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        # ONNX Runtime would take bytes for objects to be printed: "b'text'"
        return {name: _as_text(array) if name in self._text else array for name, array in feeds.items()}

    def _run(self, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            if self._has_bf16:
                arrays = self._run_bf16(feeds)
            else:
                arrays = self._session.run(self._outputs, feeds, self._run_options)
        except Exception as error:
            raise ModelError(_told(error)) from error
        return dict(zip(self._outputs, arrays, strict=True))

    def _run_bf16(self, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """A run by values of ONNX Runtime: numpy has no type that would say bfloat16."""
        values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BFLOAT16)
            if name in self._bf16
            else onnxruntime.OrtValue.ortvalue_from_numpy(array)
            for name, array in feeds.items()
        }
        results = self._session.run_with_ort_values(self._outputs, values, self._run_options)
        return [_raw_bits(value) if value.data_type() == "tensor(bfloat16)" else value.numpy() for value in results]


def _raw_bits(value: onnxruntime.OrtValue) -> NDArray[np.uint16]:
    """A copy of a bfloat16 tensor's elements as uint16."""
    shape: tuple[int, ...] = tuple(value.shape())
    size = int(np.prod(shape))
    if size == 0:
        return np.empty(shape, dtype=np.uint16)
    data = bytearray(ctypes.string_at(value.data_ptr(), size * 2))
    return np.frombuffer(data, dtype=np.uint16).reshape(shape)


def _as_text(array: NDArray[Any]) -> NDArray[Any]:
    converted = np.empty(array.size, dtype=np.object_)
    converted[:] = [element.decode() for element in array.ravel().tolist()]
    return converted.reshape(array.shape)


def _located(directory: Path, version: int, config: Mapping[str, Any]) -> Path:
    """The model's file; a directory of that name holds a file of that name."""
    file = model_file(directory, version, config, _FILE)
    if file.is_dir():
        file = file / _FILE
    name = _shown(file, directory)
    if not file.is_file():
        raise ModelError(f"there is no file {name}")
    check_external_data(file, name)
    return file


def _open(
    file: Path, directory: Path, options: onnxruntime.SessionOptions, providers: Sequence[tuple[str, dict[str, str]]]
) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=list(providers))
    except Exception as error:
        raise ModelError(without_paths(_told(error), directory)) from error


def _signature(session: onnxruntime.InferenceSession) -> Signature:
    return Signature(
        inputs=tuple(map(_info, session.get_inputs())),
        outputs=tuple(map(_info, session.get_outputs())),
        optional_inputs=tuple(map(_info, session.get_overridable_initializers())),
    )


def _info(argument: Any) -> TensorInfo:
    element = re.fullmatch(r"(?:optional\()?tensor\((\w+)\)\)?", argument.type)
    data_type = _ONNX_TYPES.get(element[1]) if element else None
    dims = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in argument.shape or ())
    return TensorInfo(argument.name, f"TYPE_{data_type}" if data_type else str(argument.type), dims)


def _told(error: Exception) -> str:
    """The text of an error of ONNX Runtime as Triton words it."""
    known = _RUNTIME_ERROR.search(str(error))
    return f"onnx runtime error {known[1]}: {known[2]}" if known else f"onnx runtime error: {error}"


def _shown(file: Path, directory: Path) -> str:
    return f"{directory.name}/{file.relative_to(directory)}"
