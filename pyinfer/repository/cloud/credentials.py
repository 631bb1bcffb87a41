# SPDX-License-Identifier: Apache-2.0
"""Whose credentials go with which URL: Triton's environment variables and its credential file.

Reads the environment and files; opens no connection. What is not given here is left to ``obstore``, which looks where
the providers' own tools look (instance metadata, workload identity). No value is ever put into an error text or log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyinfer.errors import InvalidArgument
from pyinfer.repository.cloud.location import Location

__all__ = ["AzureCredential", "Credential", "GcsCredential", "S3Credential", "find_credential"]

_FILE = "TRITON_CLOUD_CREDENTIAL_PATH"
_ENTRY_NAMES = {
    "s3": ("key_id", "secret_key", "region", "session_token", "profile"),
    "as": ("account_str", "account_key", "auth_type", "client_id"),
}
_AUTH_TYPES = ("", "key", "managed_identity", "default")


@dataclass(frozen=True)
class S3Credential:
    """Of S3. Without a key the profile counts, and without either what the environment of the process offers."""

    key_id: str = ""
    secret_key: str = field(default="", repr=False)
    region: str = ""
    session_token: str = field(default="", repr=False)
    profile: str = ""

    @property
    def has_key(self) -> bool:
        return bool(self.key_id and self.secret_key)


@dataclass(frozen=True)
class GcsCredential:
    """Of Google Cloud Storage: a file with the key of a user or a service account; "" for what the machine offers."""

    path: str = ""


@dataclass(frozen=True)
class AzureCredential:
    """Of Azure Blob Storage. Without a key and a type of authentication nobody signs: the container is public."""

    account_str: str = ""
    account_key: str = field(default="", repr=False)
    #: ``key``, ``managed_identity``, ``default`` or ""
    auth_type: str = ""
    client_id: str = ""


Credential = S3Credential | GcsCredential | AzureCredential


def find_credential(location: Location, environment: Mapping[str, str]) -> Credential:
    """The credential for ``location``: of the file that TRITON_CLOUD_CREDENTIAL_PATH names, else of ``environment``.

    In the file the entry with the longest name that the URL begins with counts, and the environment does not.
    Raises InvalidArgument where the file can not be read or has no entry for the URL.
    """
    file = environment.get(_FILE, "")
    if not file:
        return _from_environment(location.scheme, environment)
    entries = _read(Path(file)).get(location.scheme, {})
    if not isinstance(entries, dict):
        raise InvalidArgument(f"{_FILE}: '{location.scheme}' must be an object of URL prefixes")
    matching = [prefix for prefix in entries if location.url.startswith(prefix)]
    if not matching:
        raise InvalidArgument(f"Cannot match credential for path  {location.url}")
    prefix = max(matching, key=len)
    return _from_entry(location.scheme, prefix, entries[prefix])


def _from_environment(scheme: str, environment: Mapping[str, str]) -> Credential:
    def value(name: str) -> str:
        return environment.get(name, "")

    if scheme == "s3":
        return S3Credential(
            key_id=value("AWS_ACCESS_KEY_ID"),
            secret_key=value("AWS_SECRET_ACCESS_KEY"),
            region=value("AWS_DEFAULT_REGION"),
            session_token=value("AWS_SESSION_TOKEN"),
            profile=value("AWS_PROFILE"),
        )
    if scheme == "gs":
        return GcsCredential(value("GOOGLE_APPLICATION_CREDENTIALS"))
    return _azure(
        "AZURE_STORAGE_AUTH_TYPE",
        account_str=value("AZURE_STORAGE_ACCOUNT"),
        account_key=value("AZURE_STORAGE_KEY"),
        auth_type=value("AZURE_STORAGE_AUTH_TYPE"),
        client_id=value("AZURE_STORAGE_CLIENT_ID"),
    )


def _from_entry(scheme: str, prefix: str, entry: object) -> Credential:
    place = f"{_FILE}: entry '{prefix}' of '{scheme}'"
    if scheme == "gs":
        if not isinstance(entry, str):
            raise InvalidArgument(f"{place} must be the path of a credential file")
        return GcsCredential(entry)
    names = _ENTRY_NAMES[scheme]
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name, ""), str) for name in names):
        raise InvalidArgument(f"{place} must be an object of strings")
    given = {name: entry[name] for name in names if name in entry}
    return S3Credential(**given) if scheme == "s3" else _azure(f"{place}: auth_type", **given)


def _azure(place: str, **given: str) -> AzureCredential:
    credential = AzureCredential(**given)
    if credential.auth_type not in _AUTH_TYPES:
        raise InvalidArgument(f"{place} is '{credential.auth_type}': expected key, managed_identity or default")
    if credential.auth_type == "key" and not credential.account_key:
        raise InvalidArgument(f"{place} is 'key', but there is no account key")
    return credential


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise InvalidArgument(f"{_FILE}: can not read '{file}': {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InvalidArgument(f"{_FILE}: '{file}' is not JSON") from None
    if not isinstance(content, dict):
        raise InvalidArgument(f"{_FILE}: '{file}' must hold an object with 's3', 'gs' and 'as'")
    return content
