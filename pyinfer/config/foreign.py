# SPDX-License-Identifier: Apache-2.0
"""The flags of tritonserver that pyinfer does not have, and why: accepted without effect, or refused.

A flag is ignored where answers are the same without it: it tunes machinery that does not exist here. It is refused
where the operator would get something else than was asked for. Imports nothing of pyinfer, and no third-party package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["IGNORED", "REFUSED", "Refusal"]


class Refusal(NamedTuple):
    """A flag that asks for what is not there."""

    #: tritonserver's default, with which the flag is accepted; "" where it has none
    default: str
    reason: str


_EVENT_LOOP = "an event loop serves all connections"
_NO_GPU_MEMORY = "no CUDA memory is allocated"
_PACKAGES = "backends are installed packages"
_NO_SAGEMAKER = "there is no SageMaker front end"
_NO_VERTEX = "there is no Vertex AI front end"

#: name -> why it has no effect
IGNORED: Mapping[str, str] = {
    "backend-directory": _PACKAGES,
    "buffer-manager-thread-count": "tensors are copied by the threads that execute",
    "cache-directory": "the response cache is part of the server",
    "cuda-memory-pool-byte-size": _NO_GPU_MEMORY,
    "cuda-virtual-address-size": _NO_GPU_MEMORY,
    "enable-peer-access": _NO_GPU_MEMORY,
    "grpc-infer-allocation-pool-size": "memory is taken as requests need it",
    "grpc-infer-thread-count": _EVENT_LOOP,
    "grpc-max-response-pool-size": "memory is taken as responses need it",
    "host-policy": "instances are not bound to cores or NUMA nodes; numactl and taskset bind the whole server",
    "http-thread-count": _EVENT_LOOP,
    "pinned-memory-pool-byte-size": "no pinned memory is allocated",
    "repoagent-directory": "there are no repository agents",
    "sagemaker-port": _NO_SAGEMAKER,
    "sagemaker-safe-port-range": _NO_SAGEMAKER,
    "sagemaker-thread-count": _NO_SAGEMAKER,
    "vertex-ai-default-model": _NO_VERTEX,
    "vertex-ai-port": _NO_VERTEX,
    "vertex-ai-thread-count": _NO_VERTEX,
}

REFUSED: Mapping[str, Refusal] = {
    "allow-sagemaker": Refusal("false", _NO_SAGEMAKER),
    "allow-vertex-ai": Refusal("false", _NO_VERTEX),
}
