# SPDX-License-Identifier: Apache-2.0
"""Which instances are asked for, and how to get there from those that run. Pure, but for what the core is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pyinfer.errors import InvalidArgument

if TYPE_CHECKING:
    from pyinfer._core import LimitedInstance, Model

__all__ = ["InstancePlan", "Wanted", "plan_instances"]


class Wanted(NamedTuple):
    """An instance that is asked for."""

    name: str
    #: ``CPU``, ``GPU`` or ``MODEL``
    kind: str
    device: int
    #: priority for the rate limiter, and (name, is it global, count) of each resource that an execution needs
    limits: tuple[int, tuple[tuple[str, bool, int], ...]] = (0, ())
    #: it is made and takes no batches: its code has other work
    passive: bool = False

    def enter(self, core: Model) -> LimitedInstance | None:
        """What the instance has to hold while it executes; None for nothing. Raises InvalidArgument."""
        if self.passive:
            return None
        priority, resources = self.limits
        try:
            return core.limit(priority=priority, resources=resources, device=self.device)
        except ValueError as error:
            raise InvalidArgument(f"Invalid argument: {error}") from None


class InstancePlan(NamedTuple):
    """Indices of the running instances to keep and to retire, and what is to be made."""

    keep: list[int]
    retire: list[int]
    make: list[Wanted]


def plan_instances(running: Sequence[Wanted], wanted: Sequence[Wanted]) -> InstancePlan:
    """How to get from ``running`` to ``wanted`` with the fewest changes. Pure.

    An instance serves for any that is wanted of the same kind and device and with the same limits, for one of its name
    first: as in Triton, it keeps its name where only that changed.
    """
    free = list(range(len(running)))
    left = list(wanted)
    keep: list[int] = []
    for compared in (0, 1):  # from which field on
        for want in list(left):
            match = next((index for index in free if running[index][compared:] == want[compared:]), None)
            if match is not None:
                free.remove(match)
                left.remove(want)
                keep.append(match)
    return InstancePlan(sorted(keep), free, left)
