# SPDX-License-Identifier: Apache-2.0
"""From what the command line names to repositories, and their end: directories, object stores, bare model files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyinfer.repository.cloud.location import is_cloud_url
from pyinfer.repository.overrides import bare_repository
from pyinfer.repository.scan import LocalRepository, Repository

__all__ = ["open_repositories"]


@contextmanager
def open_repositories(
    names: Sequence[str], model_files: Sequence[str] = (), *, cache_directory: str = "", cache_bytes: int = 0
) -> Iterator[tuple[Repository, ...]]:
    """The repositories ``names`` (directories or URLs), and a temporary one for each model file; freed at the end.

    What is fetched from object stores is kept in ``cache_directory`` ("": the user's), ``cache_bytes`` of it.
    Raises InvalidArgument where something can not be used; nothing is connected to yet.
    """
    with ExitStack() as opened:
        repositories: list[Repository] = []
        urls = [name for name in names if is_cloud_url(name)]
        if urls:
            # nobody else needs these
            from pyinfer.repository.cloud.cache import ObjectCache, default_cache_directory
            from pyinfer.repository.storage import RemoteRepository

            cache = ObjectCache(Path(cache_directory) if cache_directory else default_cache_directory(), cache_bytes)
        for name in dict.fromkeys(names):
            if name in urls:
                remote = RemoteRepository(name, cache)
                opened.callback(remote.close)
                repositories.append(remote)
            else:
                repositories.append(LocalRepository(Path(name)))
        for file in model_files:
            directory = bare_repository(Path(file))
            opened.callback(shutil.rmtree, directory, ignore_errors=True)
            repositories.append(LocalRepository(directory))
        yield tuple(repositories)
