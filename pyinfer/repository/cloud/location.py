# SPDX-License-Identifier: Apache-2.0
"""URLs of model repositories on object stores, in Triton's forms. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyinfer.errors import InvalidArgument

__all__ = ["Location", "is_cloud_url", "parse_location"]

_SCHEMES = ("s3", "gs", "as")
_HOST = r"[0-9A-Za-z.\-]+|\[[0-9A-Fa-f:.]+\]"
#: a host needs a port, or ``http(s)://`` before it, to be told from a bucket
_S3_HOST = re.compile(
    rf"(?P<protocol>https?://)(?P<host>{_HOST})(?P<port>:\d+)?/|(?P<bare>{_HOST})(?P<bare_port>:\d+)/"
)
_BUCKET = re.compile(r"[0-9A-Za-z][0-9A-Za-z._\-]{0,221}")
_ACCOUNT = re.compile(r"(?P<account>[0-9A-Za-z\-]+)(\.blob\.core\.windows\.net)?")


@dataclass(frozen=True)
class Location:
    """A place in an object store."""

    #: as the operator wrote it
    url: str
    #: ``s3``, ``gs`` or ``as``
    scheme: str
    #: bucket, or container of Azure
    bucket: str
    #: names joined by ``/``; "" is the whole bucket
    prefix: str = ""
    #: of S3: ``http://host:port``; "" is that of the provider
    endpoint: str = ""
    #: of Azure
    account: str = ""


def is_cloud_url(text: str) -> bool:
    """Whether ``text`` names a place in an object store, and not a directory."""
    return text.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES))


def parse_location(url: str) -> Location:
    """The place that ``url`` means. Raises InvalidArgument that says what is expected.

    ``s3://bucket/path``, ``s3://host:port/bucket/path`` (plain HTTP), ``s3://https://host:port/bucket/path``,
    ``gs://bucket/path``, ``as://account/container/path`` where the account may have ``.blob.core.windows.net`` after
    it. The path may be absent; slashes at its end, and doubled ones, do not count.
    """
    scheme, _, rest = url.partition("://")
    if not is_cloud_url(url) or not url.isprintable():
        raise InvalidArgument(f"invalid model repository URL {url!a}: expected s3://, gs:// or as://")
    if "?" in rest or "#" in rest:
        raise InvalidArgument(f"invalid model repository URL '{url}': it must not have a query or a fragment")
    endpoint, account = "", ""
    if scheme == "s3":
        host = _S3_HOST.match(rest)
        if host:
            name = host["host"] or host["bare"]
            endpoint = f"{host['protocol'] or 'http://'}{name}{host['port'] or host['bare_port'] or ''}"
            rest = rest[host.end() :]
    names = [name for name in rest.split("/") if name]
    if scheme == "as" and names:
        found = _ACCOUNT.fullmatch(names[0])
        if found is None or len(names) == 1:
            raise InvalidArgument(f"Invalid azure storage path: {url}: expected as://<account>/<container>/<path>")
        account, names = found["account"], names[1:]
    if not names or not _BUCKET.fullmatch(names[0]):
        raise InvalidArgument(f"No bucket name found in path: {url}")
    if "." in names[1:] or ".." in names[1:]:
        raise InvalidArgument(f"invalid model repository URL '{url}': '.' and '..' are no names in an object store")
    return Location(url, scheme, names[0], "/".join(names[1:]), endpoint, account)
