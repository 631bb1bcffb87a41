# SPDX-License-Identifier: Apache-2.0
"""The configurations that are tried: which there are, and what each makes of the model's own. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

__all__ = ["DIMENSIONS", "Settings", "Space", "applied", "default_space"]

_SLO = "latency_slo_ms"
_THREADS = "intra_op_thread_count"
_LARGEST_BATCH = 64


@dataclass(frozen=True)
class Settings:
    """One candidate. None leaves a field as the model has it; all None is the model as it is."""

    instances: int | None = None
    max_batch_size: int | None = None
    preferred_batch_size: int | None = None
    queue_delay_us: int | None = None
    latency_slo_ms: float | None = None
    threads: int | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is the model as it is."""
        return self == Settings()

    def text(self) -> str:
        """For people, and the key in the state file."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return " ".join(f"{name}={value:g}" for name, value in given.items() if value is not None) or "as it is"


DIMENSIONS = tuple(one.name for one in fields(Settings))


@dataclass(frozen=True)
class Space:
    """The values that are tried for each setting; () leaves it as the model has it."""

    instances: Sequence[int] = ()
    max_batch_sizes: Sequence[int] = ()
    preferred_batch_sizes: Sequence[int] = ()
    queue_delays_us: Sequence[int] = ()
    latency_slos_ms: Sequence[float] = ()
    threads: Sequence[int] = ()

    def candidates(self, cores: int) -> list[Settings]:
        """All combinations that differ in effect, the model as it is first."""
        return list(dict.fromkeys([Settings(), *self._combinations(cores)]))

    def _combinations(self, cores: int) -> Iterator[Settings]:
        for count, size, threads in product(
            self.instances or (None,), self.max_batch_sizes or (None,), self._threads()
        ):
            # more threads than cores take each other's time; with the fewest of them instances were asked for
            crowded = count and threads and count * threads > cores and threads > min(self.threads)
            if crowded:
                continue
            for preferred, delay, slo in self._waits(size):
                yield Settings(count, size, preferred, delay, slo, threads)

    def _threads(self) -> Sequence[int | None]:
        return tuple(self.threads) or (None,)

    def _waits(self, size: int | None) -> Iterator[tuple[int | None, int | None, float | None]]:
        """(preferred size, delay, SLO): a batch of one waits for nobody, and an SLO stands in for a delay."""
        delays: Sequence[int | None] = tuple(self.queue_delays_us) or (None,)
        if size is not None and size <= 1:
            yield None, 0 if self.queue_delays_us else None, None
            return
        for delay in delays:
            yield None, delay, None
            if delay:
                for preferred in self.preferred_batch_sizes:
                    if size is None or preferred <= size:
                        yield preferred, delay, None
        for slo in self.latency_slos_ms:
            yield None, None, slo


def default_space(config: Mapping[str, Any], cores: int, max_p99_ms: float) -> Space:
    """What is tried where the command line does not say: for the completed configuration of a model, in JSON form.

    Sizes of batches go up to what a model of ONNX may get, and for others to what their author has allowed.
    """
    is_onnx = config.get("backend") == "onnxruntime"
    largest = int(config.get("max_batch_size", 0))
    sizes: list[int] = []
    if largest:
        most = max(largest, _LARGEST_BATCH) if is_onnx else largest
        sizes = sorted({*(4**power for power in range(most.bit_length()) if 4**power <= most), largest})
    return Space(
        # code of Python may wait for something else than a core
        instances=_steps(cores if is_onnx else 2 * cores),
        max_batch_sizes=sizes,
        queue_delays_us=(0, 1000, 5000) if sizes[1:] else (),
        latency_slos_ms=(round(0.9 * max_p99_ms, 3),) if max_p99_ms and sizes else (),
        threads=_steps(cores) if is_onnx else (),
    )


def _steps(most: int) -> list[int]:
    """1, 2, 4 ... up to ``most``; on large machines each is four times the one before."""
    factor = 2 if most <= 16 else 4
    found, value = [], 1
    while value < most:
        found.append(value)
        value *= factor
    return [*found, most]


def applied(config: Any, settings: Settings) -> Any:
    """A copy of ``config``, a message ModelConfig, with ``settings`` in it."""
    made = type(config)()
    made.CopyFrom(config)
    if settings.instances is not None:
        if not made.instance_group:
            made.instance_group.add()
        del made.instance_group[1:]
        made.instance_group[0].count = settings.instances
    if settings.max_batch_size is not None:
        made.max_batch_size = settings.max_batch_size
    if settings.threads is not None:
        made.parameters[_THREADS].string_value = str(settings.threads)
    if settings.queue_delay_us is not None or settings.latency_slo_ms is not None:
        batching = made.dynamic_batching
        batching.SetInParent()
        batching.max_queue_delay_microseconds = settings.queue_delay_us or 0
        del batching.preferred_batch_size[:]
        made.parameters.pop(_SLO, None)
    if settings.preferred_batch_size is not None:
        made.dynamic_batching.preferred_batch_size.append(settings.preferred_batch_size)
    if settings.latency_slo_ms is not None:
        made.parameters[_SLO].string_value = f"{settings.latency_slo_ms:g}"
    if made.HasField("dynamic_batching") and made.max_batch_size:
        fitting = [size for size in made.dynamic_batching.preferred_batch_size if size <= made.max_batch_size]
        made.dynamic_batching.preferred_batch_size[:] = fitting
    return made
