# SPDX-License-Identifier: Apache-2.0
"""One large tensor there and back, by gRPC and by system shared memory: what a client with ``tritonclient`` gets.

The client's own work counts: it writes the tensor into the region, or into the message, and reads the answer.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perf.procs import cpu_seconds
from perf.servers import Server

__all__ = ["Exchange", "by_grpc", "by_shared_memory", "measure_exchange"]

#: sends one tensor and returns the one that came back
Exchange = Callable[[], NDArray[np.float32]]


def measure_exchange(server: Server, exchange: Exchange, sent: NDArray[np.float32], seconds: float) -> dict[str, float]:
    """Exchanges for ``seconds``: megabytes a second both ways together, and server CPU in us a megabyte.

    Raises ValueError where what comes back is not what was sent.
    """
    if not np.array_equal(exchange(), sent):
        raise ValueError(f"{server.name} gives back another tensor")
    count, cpu, start = 0, cpu_seconds(server.pid), time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        exchange()
        count += 1
    megabytes = count * 2 * sent.nbytes / 1e6
    return {"mb_per_s": megabytes / took, "cpu_us_per_mb": 1e6 * (cpu_seconds(server.pid) - cpu) / megabytes}


@contextlib.contextmanager
def by_grpc(server: Server, model: str, tensor: NDArray[np.float32]) -> Iterator[Exchange]:
    """The tensor in the messages."""
    import tritonclient.grpc as triton

    given = triton.InferInput("INPUT0", list(tensor.shape), "FP32")

    def exchange() -> NDArray[np.float32]:
        given.set_data_from_numpy(tensor)
        answer: NDArray[np.float32] = client.infer(model, [given]).as_numpy("OUTPUT0")
        return answer

    with triton.InferenceServerClient(server.grpc) as client:
        yield exchange


@contextlib.contextmanager
def by_shared_memory(server: Server, model: str, tensor: NDArray[np.float32]) -> Iterator[Exchange]:
    """The tensor in regions of POSIX shared memory; the messages only name them."""
    import tritonclient.grpc as triton
    import tritonclient.utils.shared_memory as shm

    given = triton.InferInput("INPUT0", list(tensor.shape), "FP32")
    wanted = triton.InferRequestedOutput("OUTPUT0")
    given.set_shared_memory("bench_in", tensor.nbytes)
    wanted.set_shared_memory("bench_out", tensor.nbytes)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(triton.InferenceServerClient(server.grpc))
        regions: list[Any] = []
        for name in ("bench_in", "bench_out"):
            key = f"/pyinfer_{name}_{server.pid}"
            regions.append(shm.create_shared_memory_region(name, key, tensor.nbytes))
            stack.callback(shm.destroy_shared_memory_region, regions[-1])
            client.register_system_shared_memory(name, key, tensor.nbytes)
            stack.callback(client.unregister_system_shared_memory, name)

        def exchange() -> NDArray[np.float32]:
            shm.set_shared_memory_region(regions[0], [tensor])
            client.infer(model, [given], outputs=[wanted])
            answer: NDArray[np.float32] = shm.get_contents_as_numpy(regions[1], np.float32, list(tensor.shape))
            return answer

        yield exchange
