# SPDX-License-Identifier: Apache-2.0
"""Makes a store of ``obstore`` from a location and a credential. The only module that imports ``obstore``'s stores.

Triton's variables and files decide who signs. All else that ``obstore`` reads from the environment stays in force, such
as ``AWS_ENDPOINT_URL``, ``AWS_SKIP_SIGNATURE``, ``GOOGLE_BASE_URL`` and ``AZURE_STORAGE_ENDPOINT``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyinfer.errors import InvalidArgument
from pyinfer.repository.cloud.credentials import AzureCredential, Credential, GcsCredential, S3Credential
from pyinfer.repository.cloud.location import Location

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["has_google_credentials", "open_store"]

#: a whole read may take long, but not without a byte
_CLIENT = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "24h"}
_RETRY = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "as": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
#: how long the credentials of a profile are used before they are asked for again
_PROFILE_REFRESH = timedelta(minutes=15)


def open_store(location: Location, credential: Credential, *, anonymous: bool = False) -> ObjectStore:
    """The store for ``location``; opens no connection. ``anonymous`` signs nothing.

    Raises InvalidArgument where a package is missing, or a setting can not be used.
    """
    stores = _import("obstore.store", location, "pip install 'pyinfer[cloud]'")
    endpoint = location.endpoint or next(
        filter(None, (os.environ.get(name) for name in _ENDPOINTS[location.scheme])), ""
    )
    settings: dict[str, Any]
    if isinstance(credential, S3Credential):
        make, settings = stores.S3Store, _s3(location, credential)
    elif isinstance(credential, GcsCredential):
        make, settings = stores.GCSStore, _gcs(credential)
    else:
        make, settings = stores.AzureStore, _azure(location, credential)
    if anonymous:
        settings["skip_signature"] = True
    client = {**_CLIENT, "allow_http": endpoint.startswith("http://")}
    try:
        return make(location.bucket, client_options=client, retry_config=_RETRY, **settings)  # type: ignore[no-any-return]
    except Exception as error:  # obstore has no common base for these
        reason = str(error).partition("\n")[0]
        raise InvalidArgument(f"can not open the model repository '{location.url}': {reason}") from error


def has_google_credentials(credential: GcsCredential) -> bool:
    """Whether any credential of Google is configured, be it right or wrong."""
    file = Path(os.environ.get("HOME", "/"), ".config/gcloud/application_default_credentials.json")
    return bool(credential.path) or file.is_file() or any(name.startswith("GOOGLE_SERVICE") for name in os.environ)


def _s3(location: Location, credential: S3Credential) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if location.endpoint:
        settings["endpoint"] = location.endpoint
    if credential.region:
        settings["region"] = credential.region
    if credential.has_key:
        # not as settings: the environment would be mixed in, a session token for one
        settings["credential_provider"] = lambda: {
            "access_key_id": credential.key_id,
            "secret_access_key": credential.secret_key,
            "token": credential.session_token or None,
            "expires_at": None,
        }
    elif credential.profile:
        settings |= _profile(location, credential)
    return settings


def _profile(location: Location, credential: S3Credential) -> dict[str, Any]:
    """What the files of the AWS command line say of a profile, which may be a role, a process or a single sign-on."""
    boto3 = _import("boto3", location, "pip install boto3, or give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    try:
        session = boto3.Session(profile_name=credential.profile)
        found = session.get_credentials()
    except Exception as error:
        raise InvalidArgument(f"AWS profile '{credential.profile}': {error}") from error
    if found is None:
        raise InvalidArgument(f"AWS profile '{credential.profile}' has no credentials")
    region = credential.region or session.region_name
    return {"credential_provider": _refreshing(found)} | ({"region": region} if region else {})


def _refreshing(credentials: Any) -> Callable[[], dict[str, Any]]:
    def provide() -> dict[str, Any]:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(timezone.utc) + _PROFILE_REFRESH,
        }

    return provide


def _gcs(credential: GcsCredential) -> dict[str, Any]:
    return {"application_credentials": credential.path} if credential.path else {}


def _azure(location: Location, credential: AzureCredential) -> dict[str, Any]:
    settings: dict[str, Any] = {"account_name": credential.account_str or location.account}
    if credential.client_id:
        settings["client_id"] = credential.client_id
    if credential.auth_type == "managed_identity":
        settings["credential_type"] = "managed_identity"
    elif credential.auth_type != "default" and credential.account_key:
        settings["credential_provider"] = lambda: {"access_key": credential.account_key, "expires_at": None}
    elif credential.auth_type != "default":
        settings["skip_signature"] = True
    return settings


def _import(name: str, location: Location, remedy: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise InvalidArgument(
            f"the model repository '{location.url}' needs the package '{package}', which is not installed: {remedy}"
        ) from error
