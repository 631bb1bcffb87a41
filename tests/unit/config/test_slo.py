# SPDX-License-Identifier: Apache-2.0
"""The parameter ``latency_slo_ms``: which values it takes, and with what it goes together."""

import pytest

from pyinfer.config.normalize import normalize
from pyinfer.config.pbtxt import parse, to_json
from pyinfer.config.rules_slo import latency_slo_us, slo_faults

BASE = 'name: "m" backend: "b" max_batch_size: 8 parameters {{ key: "latency_slo_ms" value {{ string_value: "{}" }} }} '


def configured(value: str, more: str = ""):
    return normalize(to_json(parse(BASE.format(value) + more)))


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [("50", 50_000), ("0.001", 1), ("12.5", 12_500), ("3600000", 3_600_000_000), ("007", 7000)],
)
def test_milliseconds_are_read_exactly(value, microseconds):
    config = configured(value)
    assert list(slo_faults(config)) == []
    assert latency_slo_us(config) == microseconds


def test_without_it_there_is_no_slo():
    config = normalize(to_json(parse('name: "m" backend: "b"')))
    assert list(slo_faults(config)) == []
    assert latency_slo_us(config) == 0


@pytest.mark.parametrize(
    "value",
    ["", " ", "0", "0.0", "-1", "+5", "1e3", "5 ms", "nan", "inf", "0.0001", "3600000.001", "\u0665", "9" * 400],
)
def test_other_values_are_refused(value):
    (fault,) = slo_faults(configured(value))
    assert fault.message == (
        "parameter 'latency_slo_ms' of model 'm' must be milliseconds, a number above 0 and at most 3600000 with up to "
        f"3 decimals, got '{value}'"
    )
    assert fault.path == ("parameters", "latency_slo_ms")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("sequence_batching { }", "parameter 'latency_slo_ms' of model 'm' can not be used with sequence_batching"),
        (
            "dynamic_batching { max_queue_delay_microseconds: 1 }",
            (
                "dynamic batching can not have 'max_queue_delay_microseconds' for m with the parameter "
                "'latency_slo_ms', which takes its place; leave one of the two out"
            ),
        ),
        (
            "dynamic_batching { default_queue_policy { default_timeout_microseconds: 1 } }",
            (
                "queue policy can not have 'default_timeout_microseconds' for m with the parameter 'latency_slo_ms', "
                "which takes its place; leave one of the two out"
            ),
        ),
        (
            (
                "dynamic_batching { priority_levels: 2 default_priority_level: 1 "
                "priority_queue_policy { key: 2 value { default_timeout_microseconds: 1 } } }"
            ),
            (
                "queue policy can not have 'default_timeout_microseconds' for m with the parameter 'latency_slo_ms', "
                "which takes its place; leave one of the two out"
            ),
        ),
    ],
)
def test_what_it_replaces_is_not_set_beside_it(more, said):
    assert [fault.message for fault in slo_faults(configured("50", more))] == [said]


def test_other_settings_of_the_queue_go_with_it():
    more = (
        "dynamic_batching { priority_levels: 2 default_priority_level: 1 default_queue_policy { max_queue_size: 9 } }"
    )
    assert list(slo_faults(configured("50", more))) == []
