# SPDX-License-Identifier: Apache-2.0
"""The protobuf message classes of ``protos/``, out of a descriptor pool of our own.

The default pool is never touched: ``tritonclient`` registers the same names there, and both must be importable in one
process, in either order. Loading is done on first use and once. The messages of inference itself are read and written
by the core, not with these classes.
"""

from __future__ import annotations

import struct
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pyinfer.errors import InternalError

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import Message

__all__ = ["framed", "message", "pool"]

_FILE = "protos.binpb"


def _descriptors() -> bytes:
    # An editable install keeps sources and build products in different folders of the same package.
    folders = [Path(folder) for folder in sys.modules["pyinfer"].__path__]
    for folder in folders:
        file = folder / _FILE
        if file.is_file():
            return file.read_bytes()
    raise InternalError(f"{_FILE} is missing from the installed package; build it again with pip install")


@cache
def pool() -> DescriptorPool:
    """The private pool that holds ``inference`` and ``grpc.health.v1``. Any thread."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool

    descriptors = DescriptorPool()
    for file in FileDescriptorSet.FromString(_descriptors()).file:
        descriptors.AddSerializedFile(file.SerializeToString())
    return descriptors


@cache
def message(name: str) -> type[Message]:
    """The class of message ``name``: ``ModelConfig``, ``ModelInput`` or, outside of ``inference``, the full name.

    Raises KeyError for a name that ``protos/`` does not define. Any thread.
    """
    from google.protobuf.message_factory import GetMessageClass

    full_name = name if "." in name else f"inference.{name}"
    return GetMessageClass(pool().FindMessageTypeByName(full_name))


def framed(content: bytes, *, compressed: bool = False) -> bytes:
    """A serialized message behind what gRPC puts before it: whether it is compressed, and its size in bytes."""
    return struct.pack(">?I", compressed, len(content)) + content
