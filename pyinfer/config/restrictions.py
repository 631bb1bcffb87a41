# SPDX-License-Identifier: Apache-2.0
"""Restricted APIs: which categories of endpoints need a header that only some clients know.

The values of ``--http-restricted-api`` and ``--grpc-restricted-protocol`` have one form and one meaning. This module
does NOT decide over requests, and knows no endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = ["CATEGORIES", "NO_RESTRICTIONS", "Restrictions", "parse_restrictions"]

#: what may be restricted, by Triton's names
CATEGORIES = (
    "health",
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)

#: category -> (key, value): the name of the header, or the part of it that the operator chose, and what it must say
Restrictions = Mapping[str, tuple[str, str]]

NO_RESTRICTIONS: Restrictions = MappingProxyType({})

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


def parse_restrictions(values: Iterable[str], feature: str = "api") -> dict[str, tuple[str, str]]:
    """The restrictions that values of the form ``<category>,<category>,...:<key>=<value>`` ask for.

    ``feature`` is what errors call a category: "api", or "protocol" for gRPC. Raises ValueError where a value has
    another form, names an unknown category or one that is restricted already, or where no header could have such a
    name or value: it would lock everybody out.
    """
    found: dict[str, tuple[str, str]] = {}
    for text in values:
        names, colon, rest = text.partition(":")
        key, equals, value = rest.partition("=")
        if not (names and colon and key and equals and value):
            raise ValueError(f"expected <{feature}>,<{feature}>,...:<key>=<value>, got '{text}'")
        if not _TOKEN.fullmatch(key):
            raise ValueError(f"'{key}' can not be the name of a header")
        if not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"the value for '{key}' must be printable ASCII and neither begin nor end with a blank")
        for category in names.split(","):
            if category not in CATEGORIES:
                raise ValueError(f"unknown restricted {feature} '{category}'; known are {', '.join(CATEGORIES)}")
            if category in found:
                raise ValueError(f"restricted {feature} '{category}' can not be specified in multiple config groups")
            found[category] = (key, value)
    return found
