# SPDX-License-Identifier: Apache-2.0
"""The files that a model configuration names. Pure: opens nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pyinfer.config.source import FieldPath

__all__ = ["Folder", "NamedFile", "named_files", "stays_within"]


class Folder(Enum):
    """Where a file is looked for: the model's directory, or one in it."""

    MODEL = ""
    #: each version directory that is served
    VERSION = "<version>"
    WARMUP = "warmup"
    INITIAL_STATE = "initial_state"


class NamedFile(NamedTuple):
    """A file name in a configuration, and the field that has it."""

    name: str
    folder: Folder
    #: the nearest field that has a place: entries of maps have none
    path: FieldPath
    field: str


def named_files(config: Mapping[str, Any]) -> Iterator[NamedFile]:
    """The files that a normalized configuration names, empty names left out."""
    states = config.get("sequence_batching", {}).get("state", ())
    found = (
        NamedFile(
            config["default_model_filename"], Folder.VERSION, ("default_model_filename",), "default_model_filename"
        ),
        *(
            NamedFile(name, Folder.VERSION, ("cc_model_filenames",), "cc_model_filenames")
            for name in config["cc_model_filenames"].values()
        ),
        *(
            NamedFile(io["label_filename"], Folder.MODEL, ("output", index, "label_filename"), "label_filename")
            for index, io in enumerate(config["output"])
        ),
        *(
            NamedFile(
                tensor.get("input_data_file", ""), Folder.WARMUP, ("model_warmup", index, "inputs"), "input_data_file"
            )
            for index, sample in enumerate(config["model_warmup"])
            for tensor in sample["inputs"].values()
        ),
        *(
            NamedFile(
                initial.get("data_file", ""),
                Folder.INITIAL_STATE,
                ("sequence_batching", "state", index, "initial_state", position, "data_file"),
                "data_file",
            )
            for index, state in enumerate(states)
            for position, initial in enumerate(state["initial_state"])
        ),
    )
    return (file for file in found if file.name)


def stays_within(name: str) -> bool:
    """Whether the file ``name`` is below the folder that it is looked for in, as far as its text tells."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\0" in name)
