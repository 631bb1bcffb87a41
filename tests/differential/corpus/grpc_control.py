# SPDX-License-Identifier: Apache-2.0
"""gRPC without inference: health, metadata, configuration, statistics; requests that are no messages."""

from __future__ import annotations

from collections.abc import Iterable

from differential.case import Call, Case
from differential.corpus.build import call, infer_request
from differential.repository import OPEN

__all__ = ["control", "malformed"]

_MODELS = (*(model.name for model in OPEN), "unknown", "", "stats", "fp32 ", "a/b", "..", "é", "x" * 300)
_VERSIONS = (
    "",
    "0",
    "1",
    "01",
    "2",
    "10",
    "9999",
    str(2**31),
    str(2**63 - 1),
    str(2**63),
    str(2**64),
    "9" * 30,
    "-1",
    "+1",
    " 1",
    "1 ",
    "1abc",
    "abc",
    "1.0",
    "0x1",
    "é",
)
_BY_MODEL = ("ModelReady", "ModelMetadata", "ModelConfig")


def control() -> Iterable[Case]:
    for rpc in ("ServerLive", "ServerReady", "ServerMetadata"):
        yield Case(rpc, call(rpc))
    for service in ("", "inference.GRPCInferenceService", "unknown"):
        yield Case(f"Check {service!r}", call("Check", "grpc.health.v1.HealthCheckRequest", service=service))
    for rpc in _BY_MODEL:
        for model in _MODELS:
            yield Case(f"{rpc} {model[:20]!r}", call(rpc, name=model))
        for version in _VERSIONS:
            yield Case(f"{rpc} fp32 {version!r}", call(rpc, name="fp32", version=version))
            yield Case(f"{rpc} versions_latest {version!r}", call(rpc, name="versions_latest", version=version))
    for model in ("unknown", "..", "é"):
        yield Case(f"ModelStatistics {model!r}", call("ModelStatistics", name=model))
    for version in _VERSIONS[4:]:
        yield Case(f"ModelStatistics fp32 {version!r}", call("ModelStatistics", name="fp32", version=version))


def malformed() -> Iterable[Case]:
    """Bytes that are not the message of the RPC, and RPCs that there are not."""
    good = infer_request("fp32", [("INPUT0", "FP32", [1, 1])], [bytes(4)])
    contents = {
        "empty": b"", "one byte": b"\x00", "cut": good[:-1], "cut in half": good[: len(good) // 2], "text": b"text", "zeros": bytes(20), "ones": b"\xff" * 20,
        "group": b"\x0b\x0c", "end of group": b"\x0c", "field 0": b"\x02\x00", "long varint": b"\x08" + b"\xff" * 11, "length beyond": b"\x0a\x7fabc", "huge length": b"\x0a\xff\xff\xff\xff\x7f",
        "wire type 6": b"\x0e", "wire type 7": b"\x0f", "unknown field": good + b"\xfa\x3f\x03abc", "unknown varint": good + b"\xf8\x3f\x01", "name twice": b"\x0a\x01a" + good,
        "name is a varint": b"\x08\x01", "name is no UTF-8": b"\x0a\x01\xff", "empty input": b"\x0a\x04fp32\x2a\x00", "and more": good + b"\x00",
    }  # fmt: skip
    for name, data in contents.items():
        yield Case(f"ModelInfer {name}", Call("ModelInfer", data))
        if name in {"one byte", "text", "ones", "cut", "unknown field", "name is no UTF-8", "group", "empty"}:
            for rpc in ("ServerLive", "ModelReady", "ModelMetadata", "ModelConfig", "RepositoryIndex"):
                yield Case(f"{rpc} {name}", Call(rpc, data))
    for path in (
        "Unknown",
        "modelinfer",
        "ModelInfer2",
        "",
        "/inference.GRPCInferenceService/",
        "/inference.Unknown/ModelInfer",
        "/ModelInfer",
        "/a/b/c",
        "/grpc.health.v1.Health/Unknown",
        "/inference.GRPCInferenceService/ModelInfer/",
    ):
        yield Case(f"rpc {path!r}", Call(path or "/", b""))
