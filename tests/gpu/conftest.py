# SPDX-License-Identifier: Apache-2.0
"""What needs a real NVIDIA GPU: skipped, with the reason, where there is none. `make gpu` runs it.

The rest of the tree proves the same code with a driver and a management library that are made for the tests; here are
the real ones, and PyTorch and tritonclient's own regions beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pyinfer._core import cuda_available

# libraries of the machine, which this project does not install
with suppress(RuntimeError, ImportError):
    import tritonclient.utils.cuda_shared_memory as cuda_client


def _missing() -> str | None:
    """What a machine lacks for these tests; None where it has everything."""
    if not cuda_available():
        return "no NVIDIA GPU with its driver (libcuda.so.1)"
    if "cuda_client" not in globals():
        return "no cuda-python, which tritonclient's CUDA shared memory is made of"
    torch = pytest.importorskip("torch")
    return None if torch.cuda.is_available() else "a PyTorch that sees no GPU"


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    missing = _missing()
    if missing:
        pytest.skip(f"tests/gpu was not run: {missing}")


class DeviceRegion:
    """A region of a client on the first device, which frees it in the end."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size
        self._handle = cuda_client.create_shared_memory_region(name, size, 0)

    def write(self, array: NDArray[Any], offset: int = 0) -> None:
        """Puts the array there, and zeros before it."""
        cuda_client.set_shared_memory_region(self._handle, [np.zeros(offset, np.uint8), array])

    def read(self, dtype: Any, count: int, offset: int = 0) -> NDArray[Any]:
        whole = cuda_client.get_contents_as_numpy(self._handle, np.uint8, [self.size])
        return np.frombuffer(whole.tobytes(), dtype, count, offset)

    def register(self, client: Any, name: str | None = None, size: int | None = None) -> None:
        handle = cuda_client.get_raw_handle(self._handle)
        client.register_cuda_shared_memory(name or self.name, handle, 0, self.size if size is None else size)

    def free(self) -> None:
        cuda_client.destroy_shared_memory_region(self._handle)


@pytest.fixture
def region() -> Iterator[DeviceRegion]:
    """Of 1 MiB."""
    made = DeviceRegion("c", 1 << 20)
    yield made
    made.free()
