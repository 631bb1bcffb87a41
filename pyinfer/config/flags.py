# SPDX-License-Identifier: Apache-2.0
"""How a command-line flag is declared, read and documented. Knows no particular flag, and imports nothing of pyinfer.

A flag is one dataclass field made by :func:`flag`; its name is the field's with dashes. Syntax is that of getopt_long:
``--name=value`` and ``--name value``, a name may be cut short where that is not ambiguous, ``--`` ends the flags, the
last of a repeated flag wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

__all__ = [
    "Flag",
    "Parsed",
    "UsageError",
    "boolean",
    "choice",
    "flag",
    "flags_of",
    "help_lines",
    "integer",
    "markdown_rows",
    "read",
    "setting",
    "text",
]


class UsageError(ValueError):
    """The command line is wrong. The text names the flag and says what it takes."""


@dataclass(frozen=True)
class Flag:
    """What a dataclass field says about its flag. ``parse`` raises ValueError with what it expects."""

    name: str
    group: str
    help: str
    parse: Callable[[str], Any]
    metavar: str
    default: Any
    is_switch: bool
    is_repeatable: bool
    alias: str
    #: tritonserver does not have it
    is_own: bool


@dataclass(frozen=True)
class Parsed:
    """A command line taken apart: values by field name, what is not a flag, and flags that mean nothing here."""

    values: Mapping[str, Any]
    positional: tuple[str, ...]
    ignored: tuple[str, ...]


def flag(
    group: str,
    parse: Callable[[str], Any],
    default: Any,
    meaning: str,
    *,
    metavar: str = "",
    repeatable: bool = False,
    switch: bool = False,
    alias: str = "",
    own: bool = False,
) -> Any:
    """A dataclass field that is a flag of ``group``: ``repeatable`` ones collect a tuple, a ``switch`` has no value.

    ``own`` ones are not tritonserver's.
    """
    settings = {
        "group": group,
        "help": meaning,
        "parse": parse,
        "metavar": metavar or getattr(parse, "metavar", "VALUE"),
        "is_repeatable": repeatable,
        "is_switch": switch,
        "alias": alias,
        "is_own": own,
    }
    return field(default=default, metadata={"flag": settings})


def flags_of(options: type) -> dict[str, Flag]:
    """Field name -> flag, in order of declaration."""
    return {one.name: _flag(one) for one in fields(options) if "flag" in one.metadata}


def _flag(one: Field[Any]) -> Flag:
    return Flag(name=one.name.replace("_", "-"), default=one.default, **one.metadata["flag"])


def read(
    argv: Sequence[str],
    flags: Mapping[str, Flag],
    ignored: Mapping[str, str] | None = None,
    refused: Mapping[str, tuple[str, str]] | None = None,
) -> Parsed:
    """Take ``argv`` apart.

    ``ignored`` are flags of tritonserver without a meaning here, with the reason. ``refused`` are those that ask for
    what is not there: name -> the one value that is accepted ("": none), and the reason. Raises UsageError.
    """
    names = _Names(flags, ignored or {}, refused or {})
    values: dict[str, Any] = {}
    positional: list[str] = []
    skipped: list[str] = []
    rest = list(reversed(argv))
    while rest:
        word = rest.pop()
        if word == "--":
            positional += reversed(rest)
            break
        if not word.startswith("-") or word == "-":
            positional.append(word)
            continue
        given, equals, value = word.partition("=")
        name = names.full(given)
        key = names.keys.get(name)
        if key is not None and flags[key].is_switch and not equals:
            values[key] = True
            continue
        if not equals:
            if not rest or rest[-1].startswith("--"):
                raise UsageError(f"option '--{name}' needs a value")
            value = rest.pop()
        if key is not None:
            _store(values, key, flags[key], value)
        elif name in names.ignored:
            skipped.append(name)
        else:
            _refuse(name, value, *names.refused[name])
    return Parsed(values, tuple(positional), tuple(dict.fromkeys(skipped)))


class _Names:
    """All names that a command line may have."""

    def __init__(
        self, flags: Mapping[str, Flag], ignored: Mapping[str, str], refused: Mapping[str, tuple[str, str]]
    ) -> None:
        self.keys = {name: key for key, one in flags.items() for name in (one.name, one.alias) if name}
        self.ignored = ignored
        self.refused = refused
        own = {one.name for one in flags.values() if one.is_own}
        self._all = [*self.keys, *ignored, *refused]
        # a name that means a flag of tritonserver there must not mean another one here
        self._ranks = ([name for name in self._all if name not in own], sorted(own))

    def full(self, word: str) -> str:
        """The name that ``word``, without a value, means. Raises UsageError."""
        name = word.removeprefix("--")
        if not word.startswith("--"):
            raise UsageError(self._unknown(word))
        if name in self._all:
            return name
        for names in self._ranks:
            found = [each for each in names if name and each.startswith(name)]
            if len({self.keys.get(each, each) for each in found}) > 1:
                raise UsageError(f"option '{word}' is ambiguous: {', '.join(f'--{each}' for each in found)}")
            if found:
                return found[0]
        raise UsageError(self._unknown(word))

    def _unknown(self, word: str) -> str:
        close = get_close_matches(word.lstrip("-"), self._all, n=1)
        return f"unknown option '{word}'" + (f"; did you mean '--{close[0]}'?" if close else "; see --help")


def _refuse(name: str, value: str, default: str, reason: str) -> None:
    if not default or _plain(value) != _plain(default):
        remedy = f"leave it out, or give tritonserver's default, {default}" if default else "leave it out"
        raise UsageError(f"option '--{name}' of tritonserver can not be used: {reason}; {remedy}")


def _store(values: dict[str, Any], key: str, one: Flag, value: str) -> None:
    try:
        parsed = one.parse(value)
    except ValueError as error:
        raise UsageError(f"option '--{one.name}' got '{value}': {error}") from None
    values[key] = (*values.get(key, ()), parsed) if one.is_repeatable else parsed


def _plain(value: str) -> str:
    # so that a refused flag is accepted with any spelling of its default
    return {"on": "true", "1": "true", "off": "false", "0": "false"}.get(value.lower(), value.lower())


# ---- values


def boolean(value: str) -> bool:
    """true, on, 1 or false, off, 0, in any case."""
    plain = _plain(value)
    if plain not in ("true", "false"):
        raise ValueError("expected true, on, 1, false, off or 0")
    return plain == "true"


def text(value: str) -> str:
    """Any text."""
    return value


def integer(low: int = 0, high: int = 2**63 - 1) -> Callable[[str], int]:
    """A decimal integer in [low, high]."""

    def parse(value: str) -> int:
        digits = value.removeprefix("-")
        # int() would also take blanks, underscores and other scripts' digits
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20) or not low <= int(value) <= high:
            raise ValueError(
                f"expected an integer from {low} to {high}" if high < 2**63 - 1 else f"expected an integer >= {low}"
            )
        return int(value)

    parse.metavar = "N"  # type: ignore[attr-defined]
    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    """One of ``allowed``."""

    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"expected {' or '.join(allowed)}")
        return value

    parse.metavar = "|".join(allowed)  # type: ignore[attr-defined]
    return parse


def setting(value: str) -> tuple[str, str, str]:
    """``[<scope>,]<key>=<value>`` as (scope, key, value); scope is "" where there is none."""
    left, equals, right = value.partition("=")
    scope, comma, key = left.rpartition(",")
    if not equals or not key or (comma and not scope) or "," in scope:
        raise ValueError("expected [<backend>,]<setting>=<value>")
    return scope, key, right


boolean.metavar = "BOOL"  # type: ignore[attr-defined]
text.metavar = "TEXT"  # type: ignore[attr-defined]
setting.metavar = "[<backend>,]<setting>=<value>"  # type: ignore[attr-defined]


# ---- documents


def _default_text(one: Flag) -> str:
    """The default as a person would type it; empty where there is none."""
    if one.is_switch or one.default in ("", None, ()):
        return ""
    return str(one.default).lower() if isinstance(one.default, bool) else str(one.default)


def help_lines(flags: Mapping[str, Flag], width: int = 100) -> list[str]:
    """The flags by group, for a terminal."""
    import textwrap

    lines: list[str] = []
    group = ""
    for one in flags.values():
        if one.group != group:
            group = one.group
            lines += ["", f"{group}:"]
        lines.append(f"  --{one.name}" + ("" if one.is_switch else f" {one.metavar}"))
        notes = [f"default: {_default_text(one)}"] if _default_text(one) else []
        notes += ["may be repeated"] if one.is_repeatable else []
        notes += [f"also --{one.alias}"] if one.alias else []
        notes += ["not of tritonserver"] if one.is_own else []
        sentence = one.help + (f" ({'; '.join(notes)})" if notes else "")
        lines += textwrap.wrap(sentence, width, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return lines


def markdown_rows(flags: Mapping[str, Flag]) -> list[str]:
    """The flags as rows of one table for each group."""
    lines: list[str] = []
    group = ""
    for one in flags.values():
        if one.group != group:
            group = one.group
            lines += ["", f"### {group}", "", "| flag | value | default | meaning |", "|---|---|---|---|"]
        value = "" if one.is_switch else f"`{one.metavar}`".replace("|", "\\|")
        default = f"`{_default_text(one)}`" if _default_text(one) else ""
        also = f" (also `--{one.alias}`)" if one.alias else ""
        more = (" May be repeated." if one.is_repeatable else "") + (" Not of tritonserver." if one.is_own else "")
        lines.append(f"| `--{one.name}`{also} | {value} | {default} | {one.help}.{more} |".replace("|  |", "| |"))
    return lines
