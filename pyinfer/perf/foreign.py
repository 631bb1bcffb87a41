# SPDX-License-Identifier: Apache-2.0
"""perf_analyzer's flags that ``pyinfer perf`` does not have, with the reason. Tables only."""

from __future__ import annotations

__all__ = ["IGNORED", "IGNORED_WITH_VALUE", "REFUSED", "SWITCHES"]

#: perf_analyzer's flag -> why it has no effect
IGNORED = {
    "-a": "all requests are asynchronous",
    "--async": "all requests are asynchronous",
    "--sync": "all requests are asynchronous; that changes no figure",
    "--max-threads": "one thread carries the load; --threads gives it more",
    "-v": "all is shown",
    "--model-signature-name": "it is for TensorFlow Serving",
}
#: those of them that take a value
IGNORED_WITH_VALUE = {"--max-threads", "--model-signature-name"}
#: perf_analyzer's flag -> the values that mean what is done anyway, and why others are refused
REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "--grpc-method": ((), "only ModelInfer is called"),
    "--proto": ((), "only ModelInfer is called"),
    "--enable-mpi": ((), "there is one process"),
    "--triton-server-directory": ((), "there is no server in this process"),
    "--model-repository": ((), "there is no server in this process"),
    "--data-directory": ((), "it is deprecated: use --input-data"),
    "-t": ((), "it is deprecated: use --concurrency-range"),
    "-c": ((), "it is deprecated: use --concurrency-range"),
    "-d": ((), "it is deprecated: use --concurrency-range with --latency-threshold"),
    "-z": ((), "it is deprecated: use --input-data=zero"),
}
#: those of them that take no value
SWITCHES = {"--enable-mpi", "-d", "-z"}
