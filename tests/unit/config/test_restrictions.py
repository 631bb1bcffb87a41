# SPDX-License-Identifier: Apache-2.0
"""Restricted APIs: the form of the flags, and that every endpoint has a category that they can name."""

from __future__ import annotations

import pytest

from pyinfer.config.restrictions import CATEGORIES, parse_restrictions
from pyinfer.frontends.endpoints import ENDPOINTS


def test_no_restrictions() -> None:
    assert parse_restrictions([]) == {}


def test_groups() -> None:
    found = parse_restrictions(["inference,health:x-key=one", "model-repository:Admin=two"])
    assert found == {"inference": ("x-key", "one"), "health": ("x-key", "one"), "model-repository": ("Admin", "two")}


def test_the_value_is_what_follows_the_first_equals_sign() -> None:
    assert parse_restrictions(["trace:k=a=b:c,d e"]) == {"trace": ("k", "a=b:c,d e")}


def test_all_categories_at_once() -> None:
    assert set(parse_restrictions([",".join(CATEGORIES) + ":k=v"])) == set(CATEGORIES)


@pytest.mark.parametrize("text", ["", "inference", "inference:k", "inference:k=", "inference:=v", ":k=v", "k=v"])
def test_other_forms(text: str) -> None:
    with pytest.raises(ValueError, match="expected <api>,<api>,...:<key>=<value>"):
        parse_restrictions([text])


@pytest.mark.parametrize("name", ["", "foo", "INFERENCE", " inference", "inference "])
def test_unknown_categories(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown restricted protocol '{name}'"):
        parse_restrictions([f"health,{name}:k=v"], "protocol")


@pytest.mark.parametrize(
    "values", [["inference,inference:k=v"], ["inference:k=v", "health,inference:k=v"], ["trace:a=b", "trace:a=b"]]
)
def test_a_category_is_in_one_group_only(values: list[str]) -> None:
    with pytest.raises(ValueError, match="can not be specified in multiple config groups"):
        parse_restrictions(values)


@pytest.mark.parametrize("key", ["a b", "a:b", "ä", "a\r\nb", "a/b"])
def test_keys_that_no_header_can_have(key: str) -> None:
    with pytest.raises(ValueError, match="can not be the name of a header"):
        parse_restrictions([f"health:{key}=v"])


@pytest.mark.parametrize("value", [" v", "v ", "ä", "a\r\nb", "\t"])
def test_values_that_no_header_can_have(value: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        parse_restrictions([f"health:k={value}"])


def test_every_endpoint_has_a_category_of_its_route() -> None:
    """A route is restricted as a whole, whatever the verb."""
    by_route: dict[str, set[str]] = {}
    for endpoint in ENDPOINTS:
        assert endpoint.category in CATEGORIES, endpoint.rpc
        for route in endpoint.routes:
            by_route.setdefault(route, set()).add(endpoint.category)
    assert all(len(categories) == 1 for categories in by_route.values())
