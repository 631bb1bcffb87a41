# SPDX-License-Identifier: Apache-2.0
"""Models in this process, without a server: for unit tests of a ``model.py``.

Below the protocols all is the server's own: configuration, auto-complete, queues and batches, backends, calls between
models. Instances of Python models are threads of this process whatever the models say, so that ``breakpoint()``,
``monkeypatch`` and coverage work in them.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyinfer._core import BytesView, Engine, ModelCall
from pyinfer.backends.python.settings import LIMITS
from pyinfer.config.pbtxt import parse, to_json
from pyinfer.errors import InvalidArgument
from pyinfer.loader import Loader, LoaderOptions
from pyinfer.model_files import NUMPY_TYPES, wire_type
from pyinfer.repository.manager import ControlMode, ManagerOptions, ModelManager
from pyinfer.repository.scan import LocalRepository
from pyinfer.service import Service

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Answer", "AnswerStream", "InferError", "InferOptions", "LocalModel", "load_model"]

#: seconds that requests in flight get when the models are closed
_CLOSE_S = 10.0
#: parameters of a model that ask for a process
_OF_PROCESSES = ("ISOLATION", "EXECUTION_ENV_PATH", *LIMITS)
_WIRE_NAMES = {np.dtype(kind): wire_type(name) for name, kind in NUMPY_TYPES.items() if name != "TYPE_BF16"}
_START, _END = 1, 2


class InferError(Exception):
    """A request was answered with an error. The text is what a client would get."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        #: the name of Triton's code, such as ``INVALID_ARG``
        self.code = code


@dataclass(frozen=True)
class Answer:
    """One response. ``answer["OUTPUT0"]`` is an output; BYTES are object arrays of ``bytes``, BF16 ``uint16`` bits."""

    outputs: Mapping[str, NDArray[Any]]
    parameters: Mapping[str, str | int | float | bool]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.outputs[name]


class AnswerStream:
    """The responses to one request, in order, each when it is there.

    An error among them is raised, and others may follow it. The end of a request that says nothing else is left out.
    """

    def __init__(self, call: ModelCall) -> None:
        self._call = call

    def __iter__(self) -> Iterator[Answer]:
        return self

    def __next__(self) -> Answer:
        while (item := self._call.next()) is not None:
            outputs, error, parameters, final = item
            if error is not None:
                raise InferError(*error)
            if outputs or parameters or not final:
                arrays = ((name, data.numpy() if isinstance(data, BytesView) else data) for name, _, data in outputs)
                return Answer(dict(arrays), parameters)
        raise StopIteration

    def cancel(self) -> None:
        """Tell the model that nobody waits any more."""
        self._call.cancel()


class InferOptions(TypedDict, total=False):
    """What may be said of a request beside its inputs; the names are those of clients."""

    #: the latest where absent
    version: int
    #: names of the outputs that are wanted; all where absent
    outputs: Sequence[str]
    request_id: str
    parameters: Mapping[str, str | int | float | bool]
    sequence_id: int | str
    sequence_start: bool
    sequence_end: bool
    #: in the model's queue
    timeout_us: int


class LocalModel:
    """A model that runs in this process; made by :func:`load_model`. A context manager. Any thread."""

    def __init__(self, name: str, house: _House) -> None:
        self.name = name
        self._house = house

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def config(self) -> dict[str, Any]:
        """The complete configuration in Triton's JSON form, as the model's ``initialize`` gets it."""
        return self._house.service.model_config(self.name)

    def other(self, name: str) -> LocalModel:
        """A model that was loaded together with this one. They end together."""
        self._house.service.model_config(name)
        return LocalModel(name, self._house)

    def infer(self, inputs: Mapping[str, ArrayLike], **options: Unpack[InferOptions]) -> Answer:
        """Ask, and wait for the answer.

        ``inputs`` are arrays as a client sends them, with the batch dimension where the model has one; lists and texts
        are converted to the data type of the configuration. Raises :class:`InferError` where the answer is an error,
        and ValueError for a decoupled model: :meth:`stream` is for those.
        """
        self._refuse_decoupled()
        return next(AnswerStream(self._begin(self._tensors(inputs), **options)))

    def infer_batch(self, requests: Sequence[Mapping[str, ArrayLike]], **options: Unpack[InferOptions]) -> list[Answer]:
        """Ask several times at once: ``execute`` gets the requests together, as far as the model's batching allows.

        Raises as :meth:`infer`, the first error of all.
        """
        self._refuse_decoupled()
        tensors = [self._tensors(inputs) for inputs in requests]  # before the first is queued: any may be refused
        last = len(requests) - 1
        calls = [self._begin(each, dispatch=at == last, **options) for at, each in enumerate(tensors)]
        return [next(AnswerStream(call)) for call in calls]

    def stream(self, inputs: Mapping[str, ArrayLike], **options: Unpack[InferOptions]) -> AnswerStream:
        """Ask a decoupled model, or any other. The request has begun when this returns."""
        return AnswerStream(self._begin(self._tensors(inputs), **options))

    def close(self) -> None:
        """Answer what is under way, and end all models that were loaded together. Idempotent."""
        self._house.close()

    def _refuse_decoupled(self) -> None:
        if self.config.get("model_transaction_policy", {}).get("decoupled"):
            raise ValueError(f"model '{self.name}' is decoupled and may answer any number of times: use stream()")

    def _tensors(self, inputs: Mapping[str, ArrayLike]) -> list[tuple[str, str, NDArray[Any]]]:
        types = {entry["name"]: entry["data_type"] for entry in self.config["input"]}
        return [_tensor(name, value, types.get(name, "")) for name, value in inputs.items()]

    def _begin(
        self,
        tensors: list[tuple[str, str, NDArray[Any]]],
        *,
        version: int = -1,
        outputs: Sequence[str] = (),
        request_id: str = "",
        parameters: Mapping[str, str | int | float | bool] | None = None,
        sequence_id: int | str = 0,
        sequence_start: bool = False,
        sequence_end: bool = False,
        timeout_us: int = 0,
        dispatch: bool = True,
    ) -> ModelCall:
        return ModelCall(
            self._house.engine,
            self.name,
            version,
            tensors,
            request_id=request_id,
            correlation_id=sequence_id,
            flags=sequence_start * _START | sequence_end * _END,
            timeout_us=timeout_us,
            parameters=parameters,
            outputs=outputs,
            decoupled=True,
            as_client=True,
            dispatch=dispatch,
        )


class _House:
    """An engine and what serves its models. Ends with the last model that refers to it."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.engine = Engine()
        loader = Loader(self.engine, LoaderOptions(backend_config={"python": {"isolation": "thread"}}))
        repositories = tuple(LocalRepository(parent) for parent in dict.fromkeys(each.parent for each in directories))
        options = ManagerOptions(repositories=repositories, mode=ControlMode.EXPLICIT)
        self.service = Service(self.engine, ModelManager(options, loader, self.engine))
        loader.control = self.service
        self.service.start()
        self.close = weakref.finalize(self, self.service.stop, _CLOSE_S)

    def load(self, directory: Path, config: Mapping[str, Any] | None) -> None:
        given = _without_processes(directory) if config is None else config
        self.service.load_model(directory.name, {} if given is None else {"config": json.dumps(given)})


def load_model(directory: str | Path, *others: str | Path, config: Mapping[str, Any] | None = None) -> LocalModel:
    """Load the model in ``directory``, which holds ``config.pbtxt`` and version directories, as the server would.

    ``others`` are the directories of models that it calls. ``config``, a configuration in Triton's JSON form, is taken
    instead of the model's own. The folders around the directories are repositories from which ``pb_utils.load_model``
    loads, and ensembles their steps. All ends with :meth:`LocalModel.close`, or with the last reference.

    Raises :class:`pyinfer.errors.PyinferError` where a model can not be loaded.
    """
    directories = [Path(each).resolve() for each in (directory, *others)]
    for each in directories:
        if not each.is_dir():
            raise InvalidArgument(f"there is no model directory '{each}'")
    house = _House(directories)
    try:
        for each in reversed(directories):
            house.load(each, config if each is directories[0] else None)
    except BaseException:
        house.close()
        raise
    return LocalModel(directories[0].name, house)


def _without_processes(directory: Path) -> dict[str, Any] | None:
    """The model's configuration less what asks for a process; None where it does not."""
    file = directory / "config.pbtxt"
    if not file.is_file():
        return None
    config = to_json(parse(file.read_bytes(), f"{directory.name}/{file.name}"))
    parameters = config.get("parameters", {})
    if not any(name in parameters for name in _OF_PROCESSES):
        return None
    return config | {"parameters": {key: parameters[key] for key in parameters if key not in _OF_PROCESSES}}


def _tensor(name: str, value: ArrayLike, data_type: str) -> tuple[str, str, NDArray[Any]]:
    """(name, datatype, array) of an input whose configured type is ``data_type``; empty where there is none."""
    array = value if isinstance(value, np.ndarray) else np.asarray(value, NUMPY_TYPES.get(data_type))
    if array.dtype.kind in "OSU":
        return name, "BYTES", array.astype(np.object_)
    if data_type == "TYPE_BF16" and array.dtype.itemsize == 2:
        return name, "BF16", array.view(np.uint16)
    datatype = _WIRE_NAMES.get(array.dtype.newbyteorder("="))
    if datatype is None:
        raise TypeError(f"input '{name}' has dtype {array.dtype}, which no Triton data type holds")
    return name, datatype, array
