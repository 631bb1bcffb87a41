# SPDX-License-Identifier: Apache-2.0
"""The statistics of models as the core writes them: as JSON and as a message, which say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from pyinfer import _core
from pyinfer.config.messages import message
from unit.core.house import House

DURATIONS = ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"]


def as_json(*models: _core.Model) -> list[dict[str, Any]]:
    return list(json.loads(_core.statistics_json(models))["model_stats"])


def as_message(*models: _core.Model) -> list[dict[str, Any]]:
    """With what a message leaves out, as numbers: its JSON has texts for those of 64 bits."""
    parsed = message("inference.ModelStatisticsResponse").FromString(_core.statistics_message(models))

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: text if key in ("name", "version") else plain(text) for key, text in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return int(value)

    shown = MessageToDict(parsed, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return list(plain(shown)["model_stats"])


def serve(house: House, count: int) -> None:
    """Requests one after the other, each of which waits a millisecond and is packed for 2**40 ns."""
    for _ in range(count):
        connection = house.connect()
        house.send_ints(connection, [1], 5)
        house.clock.advance_ns(10**6)
        batch = house.instance.poll()
        assert batch is not None
        house.clock.advance_ns(2**40)
        batch.respond_packed({"OUT": batch.packed()["IN"]})
        batch.finish()
        assert house.answer(connection).status == 200
        house.close(connection)


def test_of_no_model() -> None:
    assert _core.statistics_json([]) == b'{"model_stats":[]}'
    assert _core.statistics_message([]) == b""


def test_of_a_model_that_was_not_used() -> None:
    house = House()
    [told] = as_json(house.model)
    assert list(told) == [
        "name",
        "version",
        "last_inference",
        "inference_count",
        "execution_count",
        "inference_stats",
        "response_stats",
        "batch_stats",
        "memory_usage",
    ]
    assert list(told["inference_stats"]) == DURATIONS
    assert told["response_stats"] == {} and told["batch_stats"] == told["memory_usage"] == []
    parsed = message("inference.ModelStatisticsResponse").FromString(_core.statistics_message([house.model]))
    assert all(parsed.model_stats[0].inference_stats.HasField(name) for name in DURATIONS)
    assert as_message(house.model) == [told]


def test_both_say_the_same_of_models_that_were_used() -> None:
    house = House()
    serve(house, 3)
    other = House()
    connection = other.connect()
    other.send_ints(connection, [1], 5)
    batch = other.instance.poll()
    assert batch is not None
    batch.fail(0, "INTERNAL", "no")
    batch.finish()
    told = as_json(house.model, other.model, house.model)
    assert told == as_message(house.model, other.model, house.model)
    assert told[0] == told[2] != told[1]
    assert told[0]["inference_count"] == 3 and told[0]["execution_count"] == 3
    assert told[0]["inference_stats"]["success"] == {"count": 3, "ns": 3 * (10**6 + 2**40)}
    assert told[0]["batch_stats"][0]["compute_input"] == {"count": 3, "ns": 3 * 2**40}
    assert told[1]["inference_stats"]["fail"]["count"] == 1


@pytest.mark.parametrize("name", ['we"ird\n{\\', "\u00e4\u4e2d \u2028\x7f\x01", "," * 300])
def test_of_a_model_of_any_name(name: str) -> None:
    house = House(_core.ModelSpec(name=name, version=2**40, inputs=[], outputs=[]))
    for [told] in (as_json(house.model), as_message(house.model)):
        assert (told["name"], told["version"]) == (name, str(2**40))
