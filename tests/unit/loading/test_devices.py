# SPDX-License-Identifier: Apache-2.0
"""Which devices are usable, and whether a model may be loaded to them."""

from __future__ import annotations

import pytest

from pyinfer import devices
from pyinfer.backends.find import find_backend, may_use_devices
from pyinfer.devices import Devices
from pyinfer.errors import Unavailable

#: the second is one that the driver did not describe
FOUND = [("GPU-a", 7, 5), ("", 0, 0), ("GPU-c", 9, 0)]


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that the driver was asked."""
    times: list[int] = []

    def found() -> list[tuple[str, int, int]]:
        times.append(1)
        return FOUND

    monkeypatch.setattr(devices, "cuda_devices", found)
    return times


@pytest.mark.parametrize(("minimum", "usable"), [((0, 0), [0, 2]), ((7, 5), [0, 2]), ((7, 10), [2]), ((9, 1), [])])
def test_capability(minimum: tuple[int, int], usable: list[int]) -> None:
    assert Devices(minimum_capability=minimum, environment={}).usable() == usable


def test_they_are_looked_for_once_and_when_they_are_needed(asked: list[int]) -> None:
    these = Devices(environment={})
    assert these.uuid(None) == ""
    these.check_room([0], "m")
    assert asked == []
    assert (these.uuid(2), these.usable(), these.usable()) == ("GPU-c", [0, 2], [0, 2])
    assert asked == [1]


def test_none_where_the_server_is_told_so(asked: list[int]) -> None:
    assert Devices(environment={"TRITON_SERVER_CPU_ONLY": "1"}).usable() == []
    assert asked == []


def test_room(monkeypatch: pytest.MonkeyPatch) -> None:
    in_use = {"GPU-a": 0.5, "GPU-c": None}
    monkeypatch.setattr(devices, "memory_in_use", in_use.get)
    these = Devices(load_limits={0: 0.5, 2: 0.1}, environment={})
    these.check_room([0, 2], "m")
    in_use["GPU-a"] = 0.51
    these.check_room([2], "m")
    with pytest.raises(Unavailable, match=r"can not create model 'm': memory limit set for GPU 0 has exceeded"):
        these.check_room([2, 0], "m")


@pytest.mark.parametrize("name", ["identity", "onnxruntime", "python"])
def test_what_is_known_of_backends_without_importing_them(name: str) -> None:
    assert may_use_devices(name) is find_backend(name).uses_devices
    assert may_use_devices("of another package")
