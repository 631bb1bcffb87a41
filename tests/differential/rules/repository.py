# SPDX-License-Identifier: Apache-2.0
"""Differences in loading, unloading and listing models, and in the logging and shared memory extensions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from differential.case import Answer, Call, Case, Http, error_text
from differential.documented import Rule
from differential.rules.make import is_fault, reads, refused, same_fault, served, status

__all__ = ["RULES"]

_POLL = "failed to load '.*', failed to poll from model repository"
_BACKEND = r"unable to find backend (library for backend )?'(?P<name>.*?)'.*"
_NAMES = "invalid model name '.*', model name must not .*"
#: what pyinfer says of an override that can not be used
_OVERRIDE = (
    "Invalid config override: .*|Load parameter 'config' must be specified for model file override"
    "|.* must be .*|.* must specify .*|unexpected directory name .*|Invalid model name: Could not determine backend .*"
)
_FILE = "Invalid file parameter 'file:.*' must stay within model directory.*"


def _rpc(case: Case) -> str:
    return case.request.rpc if isinstance(case.request, Call) else ""


def _does(case: Case, action: str) -> bool:
    """Whether a request loads or unloads: ``Load`` or ``Unload``."""
    target = case.request.target if isinstance(case.request, Http) else ""
    return _rpc(case) == f"RepositoryModel{action}" or target.endswith(f"/{action.lower()}")


def _entries(answer: Answer) -> list[dict[str, Any]] | None:
    """The entries of a repository index."""
    entries = answer.get("json", answer.get("message", {}).get("models") if "message" in answer else None)
    return entries if isinstance(entries, list) else None


def _with_entries(answer: Answer, entries: list[dict[str, Any]]) -> Answer:
    if "json" in answer:
        return {**answer, "json": entries}
    return {**answer, "message": {**answer["message"], "models": entries}}


def _index_of_failed(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """Models of which no version was chosen: Triton leaves them out, or has their name alone."""
    one, other = _entries(theirs), _entries(ours)
    if one is None or other is None:
        return theirs
    failed = [entry for entry in other if "version" not in entry and entry.get("state", "UNAVAILABLE") == "UNAVAILABLE"]
    names = {entry["name"] for entry in failed}
    if any("version" in entry for entry in one if entry["name"] in names):
        return theirs
    kept = [entry for entry in one if entry["name"] not in names]
    order = [(entry["name"], entry.get("version", "")) for entry in other]
    merged = sorted([*kept, *failed], key=lambda entry: (entry["name"], entry.get("version", "")))
    return _with_entries(theirs, merged) if len(merged) == len(order) else theirs


def _index_of_reloaded(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """A version that serves although its reload has failed: pyinfer says why."""
    one, other = _entries(theirs), _entries(ours)
    if one is None or other is None or len(one) != len(other):
        return theirs
    merged = [
        {**a, "reason": b["reason"]}
        if a.get("state") == "READY" and "reason" in b and {**a, "reason": b["reason"]} == b
        else a
        for a, b in zip(one, other, strict=True)
    ]
    return _with_entries(theirs, merged)


def _config_of(answer: Answer) -> dict[str, Any] | None:
    config = answer.get("json", answer.get("message", {}).get("config") if "message" in answer else None)
    return config if isinstance(config, dict) and "input" in config else None


def _override_ends(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """After a load without override: pyinfer has the configuration of the disk, in which the batch size is 8."""
    one, other = _config_of(theirs), _config_of(ours)
    if not case.name.startswith("no override any more") or one is None or other is None:
        return theirs
    return ours if other.get("max_batch_size") == 8 and one.get("max_batch_size") != 8 else theirs


def _policy_alone(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """After a change of the version policy alone: Triton shows the policy of before."""
    one, other = _config_of(theirs), _config_of(ours)
    if one is None or other is None or not case.name.startswith("override good again"):
        return theirs
    return ours if {**one, "version_policy": other["version_policy"]} == other else theirs


def _wrong_config(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """A fault of a configuration that Triton finds when the model is loaded: pyinfer finds all of them before."""
    one = re.fullmatch(
        r"load failed for model '(.*)': version 1 is at UNAVAILABLE state: [\w ]+: (.*);\n", error_text(theirs)
    )
    other = re.fullmatch(
        r"failed to load '(.*)', failed to poll from model repository: [^:]*:\d+:\d+: (.*)", error_text(ours)
    )
    fits = one and other and one.groups() == other.groups() and (theirs["status"], ours["status"]) == (400, 500)
    return ours if fits else theirs


def _log_fault(case: Case, theirs: Answer, ours: Answer) -> Answer:
    if not reads("attempt to access JSON .*", error_text(theirs)) or not reads("expect .* for '.*'", error_text(ours)):
        return theirs
    return {**theirs, "error": ours["error"]}


def _verbose_beyond(case: Case, theirs: Answer, ours: Answer) -> Answer:
    if error_text(ours) != "expect int32 for 'log_verbose_level'" or is_fault(theirs):
        return theirs
    sent = case.request.body if isinstance(case.request, Http) else getattr(case.request, "request", b"")
    return ours if re.search(rb"\d{10,}", sent) or b"\xff\xff\xff\xff\x0f" in sent else theirs


def _region_names(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """Names in the URL of a region are decoded."""
    if "%" not in (case.request.target if isinstance(case.request, Http) else ""):
        return theirs
    shown, other = theirs.get("json"), ours.get("json")
    fits = isinstance(shown, list) and isinstance(other, list) and len(shown) == len(other) == 1
    if not fits or {**shown[0], "name": ""} != {**other[0], "name": ""}:
        return theirs
    return {**theirs, "json": other}


def _no_bytes(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """A size of 0 at offset 0 of a region, which Triton takes for one that is too large. What pyinfer says tells 0."""
    if not reads("Invalid offset \\+ byte size for shared memory region: '.*'", error_text(theirs)):
        return theirs
    served = b'"shape": [1, 0]' in getattr(case.request, "body", b"") and not is_fault(ours)
    return ours if served or reads(_ZERO_BYTES, error_text(ours)) else theirs


_ZERO_BYTES = (
    r"\[request id: .*\] input byte size mismatch for input '.*' for model '.*'\. Expected \d+, got 0"
    r"|shared memory size specified with the request for output '.*' \(0 bytes\) should be at least .*"
)
_REGION = "failed to register shared memory region '(?P<name>.*)': "
_WRONG_JSON = "attempt to (access JSON .*|get members for non-object|access non-existing object member .*)"

_LOADED = (500,)

REPOSITORY: dict[str, Sequence[Rule]] = {
    "config-wrong": (_wrong_config,),
    "all-passive": (refused(".* must specify an instance group that is not passive .*", statuses=_LOADED),),
    "secondary-devices": (refused(r".* does not support: instance_group\[0\]\.secondary_devices", statuses=_LOADED),),
    "custom-batching": (
        refused(
            ".* does not support: parameters: TRITON_BATCH_STRATEGY_PATH",
            statuses=_LOADED,
            triton=".*Batching library path not found.*",
        ),
    ),
    "index-failed": (_index_of_failed,),
    "index-reload": (_index_of_reloaded,),
    "index-named": (
        refused(
            "'repository_name' specification is not supported",
            statuses=(501,),
            when=lambda case: isinstance(case.request, Http),
        ),
    ),
    "index-ready": (
        same_fault("attempt to access JSON non-boolean as boolean", "Invalid value for 'ready': expected a boolean"),
    ),
    "load-no-name": (
        refused("Model name cannot be empty.*", triton=f"{_POLL}|load failed for model '.*': at least one .*"),
    ),
    "load-names": (refused(_NAMES, triton=f"{_POLL}|load failed for model '.*': at least one version .*"),),
    "load-parameter": (
        status(500, 400, "unexpected error on creating Triton parameter"),
        same_fault("unexpected error on creating Triton parameter", "unrecognized load parameter '.*'."),
        same_fault(_WRONG_JSON, "unrecognized load parameter '.*'."),
    ),
    "resource-case": (
        served("load failed for model 'small_case': .*Resource count for \"r\" is limited to 0 .*"),
        served("Request for unknown model: 'small_case' .*"),
    ),
    "load-config": (refused(f"{_OVERRIDE}|{_BACKEND}", triton=_POLL),),
    "load-files": (
        refused("load parameter 'file:.*' is not valid base64: .*"),
        same_fault(
            "invalid value type for load parameter 'file:.*', expected bytes_param.",
            "load parameter 'file:.*' is not valid base64: .*",
        ),
        refused(
            "Load parameter 'config' must be specified .*|invalid value type for load parameter 'file:.*",
            triton=".*",
            when=lambda case: b"file:" in getattr(case.request, "request", b""),
        ),
    ),
    "load-file-paths": (
        refused(_FILE, triton=f"{_POLL}|load failed for model '.*': at least one version .*"),
        status(500, 400, _POLL),
        same_fault(_POLL, "load failed for model '.*': at least one version must be available .*"),
    ),
    "unload-dependents": (
        refused(
            "invalid value type for 'unload_dependents' parameter, expected bool_param.",
            when=lambda case: _does(case, "Unload"),
        ),
    ),
    "unload-body": (
        refused(
            "Invalid value for 'parameters': expected an object|failed to parse the request JSON buffer: .*",
            when=lambda case: _does(case, "Unload"),
        ),
    ),
    "text-load": (
        same_fault(
            r"load failed for model '.*': version \d+ is at UNAVAILABLE state: [A-Za-z ]+: (?P<why>.*);\n",
            "(?P<why>.*)",
        ),
        same_fault(
            rf"load failed for model '.*': version \d+ is at UNAVAILABLE state: [A-Za-z ]+: {_BACKEND};\n", _BACKEND
        ),
    ),
    "text-load-parameters": (
        same_fault(
            _WRONG_JSON,
            "invalid value type for load parameter '.*', expected .*"
            "|Invalid value for 'parameters': expected an object",
        ),
    ),
    "text-no-version": (
        same_fault(
            "Request for unknown model: '(?P<model>.*?)' (has no available versions|version .* is not found)",
            "Request for unknown model: '(?P<model>.*?)' is not found",
        ),
    ),
    "ready-no-version": (
        lambda case, theirs, ours: (
            ours
            if case.name.endswith("server ready")
            and "no_version" in case.name
            and ours in ({"status": 200, "headers": {}}, {"status": "OK", "message": {"ready": True}})
            else theirs
        ),
    ),
    "override-ends": (_override_ends,),
    "policy-alone": (_policy_alone,),
}
LOGGING: dict[str, Sequence[Rule]] = {
    "log-type": (_log_fault,),
    "log-verbose": (_verbose_beyond,),
    "trace-values": (
        refused(
            r"unknown trace level '.*', expected .*|Unable to parse '.*', (value is out of range .*|got: .*)"
            "|expect (array of strings|string|only 1 value) for '.*'",
            triton="attempt to access JSON .*|Unable to parse .*",
        ),
        same_fault("attempt to access JSON .*", "expect .* for '.*'"),
    ),
    "text-trace-count": (
        same_fault(
            "(?P<start>Unable to parse 'trace_count'. Expecting value >= -1), got:.*",
            "(?P<start>Unable to parse 'trace_count'. Expecting value >= -1), got: .*",
        ),
    ),
    "text-log-format": (
        same_fault(
            "invalid argument for --log_format, got: (?P<got>.*)", "invalid argument for log_format, got: (?P<got>.*)"
        ),
    ),
}
MEMORY: dict[str, Sequence[Rule]] = {
    "shm-offset": (served(f"{_REGION}unable to process address spaceInvalid argument"),),
    "shm-range": (same_fault(f"{_REGION}unable to process address space.*", f"{_REGION}invalid args"),),
    "shm-keys": (
        refused(
            "cannot register shared memory region '.*': its key is empty, too long, or .*",
            triton="Unable to open shared memory region: '.*'",
        ),
    ),
    "shm-reserved": (
        refused(
            "cannot register shared memory region '.*' with key '.*' as the key contains the reserved prefix .*",
            triton="Unable to open shared memory region: '.*'",
        ),
    ),
    "shm-name": (refused("'region name' is necessary to register system shared memory region"),),
    "shm-names-decoded": (_region_names,),
    "shm-no-bytes": (_no_bytes,),
    "text-cuda": (
        same_fault(
            "failed to register shared memory region: invalid args"
            "|'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t",
            "failed to register CUDA shared memory region '.*': .*",
        ),
    ),
    "text-region-json": (
        same_fault(
            "(?P<fault>attempt to access JSON .*)", "Unable to parse '.*': (?P<fault>attempt to access JSON .*)"
        ),
        same_fault("attempt to access non-existing object member 'b64'", "Unable to parse 'raw_handle': attempt to .*"),
        same_fault(
            "failed to parse the request JSON buffer: The document is empty. at 0",
            "Shared memory register request has no 'key' field",
        ),
    ),
    "text-capital": (
        lambda case, theirs, ours: (
            {**theirs, "error": ours["error"]}
            if error_text(theirs) != error_text(ours)
            and error_text(theirs)[1:] == error_text(ours)[1:]
            and error_text(theirs)[:1].upper() == error_text(ours)[:1]
            else theirs
        ),
    ),
}
RULES: dict[str, Sequence[Rule]] = {**REPOSITORY, **LOGGING, **MEMORY}
