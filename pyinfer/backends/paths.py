# SPDX-License-Identifier: Apache-2.0
"""Where a model's files lie, and how to speak of them to a client. It opens nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyinfer.errors import ConfigError

__all__ = ["lowest_version", "model_file", "without_paths"]

# At least two separators, so that a fraction or a lone "/x" stays; a URL is preceded by ":" and stays as well.
_ABSOLUTE_PATH = re.compile(r"""(?<![\w./:])/(?:[^\s/'"<>|:;,()\[\]]+/)+([^\s/'"<>|:;,()\[\]]*)""")


def lowest_version(directory: Path) -> int | None:
    """The lowest version that the model's ``directory`` holds: the one that auto-complete looks at.

    None without any.
    """
    versions = (entry.name for entry in directory.iterdir() if entry.is_dir() and entry.name.isdecimal())
    return min((int(name) for name in versions if name == str(int(name))), default=None)


def model_file(directory: Path, version: int, config: Mapping[str, Any], default: str) -> Path:
    """The file to load: ``default_model_filename`` of ``config``, else ``default``, in the version's directory.

    Raises ConfigError where the name leads out of the version's directory.
    """
    name = config.get("default_model_filename") or default
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise ConfigError(f"default_model_filename '{name}' must be a name inside the version directory")
    return directory / str(version) / name


def without_paths(text: str, directory: Path) -> str:
    """``text`` with paths below the repository made relative to it, and other absolute paths cut to their last part.

    ``directory`` is the model's directory; its parent is the repository.
    """
    repositories = {str(directory.parent.absolute()), str(directory.parent.resolve()), str(directory.parent)}
    for repository in sorted(repositories, key=len, reverse=True):
        if len(repository) > 1:
            text = text.replace(f"{repository}/", "")
    return _ABSOLUTE_PATH.sub(r"\1", text)
