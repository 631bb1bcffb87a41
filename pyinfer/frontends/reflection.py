# SPDX-License-Identifier: Apache-2.0
"""``ServerReflectionInfo``: the services that the gRPC port offers and their descriptors, out of our own pool.

It does NOT know connections: one question in, one answer out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyinfer.config.messages import message, pool
from pyinfer.frontends.endpoints import RPCS
from pyinfer.frontends.replies import Reply

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor

__all__ = ["Reflection"]

_NOT_FOUND, _INVALID_ARGUMENT = 5, 3


class Reflection:
    """One call; ``package`` is the name under which the client asks: the messages of all are alike."""

    def __init__(self, package: str, reply: Reply) -> None:
        self._package, self._reply = package, reply

    def on_message(self, request: bytes) -> None:
        from google.protobuf.message import DecodeError

        try:
            asked: Any = message(f"{self._package}.ServerReflectionRequest").FromString(request)
        except DecodeError:
            self._reply.fail("INVALID_ARG", "failed to parse the ServerReflectionInfo request message")
            return
        response: Any = message(f"{self._package}.ServerReflectionResponse")()
        response.valid_host = asked.host
        response.original_request.CopyFrom(asked)
        _answer(asked, response)
        self._reply.send(response.SerializeToString())

    def on_end(self) -> None:
        self._reply.finish()

    def on_gone(self) -> None: ...


def _answer(asked: Any, response: Any) -> None:
    choice = asked.WhichOneof("message_request")
    try:
        if choice is None:
            response.error_response.error_code = _INVALID_ARGUMENT
            response.error_response.error_message = "the request asks for nothing"
        else:
            _ANSWERS[choice](asked, response)
    except KeyError:
        response.error_response.error_code = _NOT_FOUND
        response.error_response.error_message = f"{choice}: no such thing is known"


def _file_by_name(asked: Any, response: Any) -> None:
    _put_file(response, pool().FindFileByName(asked.file_by_filename))


def _file_of_symbol(asked: Any, response: Any) -> None:
    _put_file(response, pool().FindFileContainingSymbol(asked.file_containing_symbol))


def _file_of_extension(asked: Any, response: Any) -> None:
    wanted = asked.file_containing_extension
    extended = pool().FindMessageTypeByName(wanted.containing_type)
    extension: Any = pool().FindExtensionByNumber(extended, wanted.extension_number)
    _put_file(response, extension.file)


def _extension_numbers(asked: Any, response: Any) -> None:
    extended = pool().FindMessageTypeByName(asked.all_extension_numbers_of_type)
    found = response.all_extension_numbers_response
    found.base_type_name = extended.full_name
    found.extension_number.extend(sorted(extension.number for extension in pool().FindAllExtensions(extended)))


def _services(asked: Any, response: Any) -> None:
    for name in sorted({endpoint.grpc_service for endpoint in RPCS}):
        response.list_services_response.service.add(name=name)


_ANSWERS: dict[str, Callable[[Any, Any], None]] = {
    "file_by_filename": _file_by_name,
    "file_containing_symbol": _file_of_symbol,
    "file_containing_extension": _file_of_extension,
    "all_extension_numbers_of_type": _extension_numbers,
    "list_services": _services,
}


def _put_file(response: Any, file: FileDescriptor) -> None:
    """The file, and all that it imports: a client need not ask again for those."""
    names = {file.name}
    left = [file]
    while left:
        one = left.pop(0)
        response.file_descriptor_response.file_descriptor_proto.append(one.serialized_pb)
        fresh = [imported for imported in one.dependencies if imported.name not in names]
        names.update(imported.name for imported in fresh)
        left += fresh
