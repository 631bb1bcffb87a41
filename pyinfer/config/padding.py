# SPDX-License-Identifier: Apache-2.0
"""Reads the parameters of a model that say how requests of different lengths are padded. Pure.

``padding.AXIS.inputs``, ``.buckets``, ``.outputs`` and ``.lengths`` describe one length that differs between requests;
AXIS is any name for it. ``docs/padding.md`` tells what they mean.
"""

from __future__ import annotations

import difflib
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from pyinfer.config.rules_io import Fault

__all__ = ["Axis", "PaddedTensor", "Padding", "padding_faults", "padding_of"]

_FIELDS = ("inputs", "buckets", "outputs", "lengths")
_KEY = re.compile(r"padding\.([^.]+)\.([^.]+)")
_ENTRY = re.compile(r"(?P<name>[^\[\]=\s]+)(?:\[(?P<dim>\d{1,3})\])?(?:=(?P<value>.*))?", re.DOTALL)
_LENGTHS = re.compile(r"(\S+)\s+TYPE_(INT32|INT64)")

_LONGEST = "longest within "
_LIST = re.compile(r"\d+(?:\s*,\s*\d+)*")
_MULTIPLES = re.compile(r"multiples of (\d+) up to (\d+)")
_POWERS = re.compile(r"powers of 2 (?:from (\d+) )?up to (\d+)")
_UP_TO = re.compile(r"longest up to (\d+)")
_RULES = "'16, 32, 64', 'multiples of 16 up to 512', 'powers of 2 up to 512' or 'longest up to 512'"
_MOST_BUCKETS = 65536
#: longer ones are a mistake: each row of each batch may become so long
_LONGEST_BUCKET = 1 << 24

_FORMATS = {
    "TYPE_UINT8": "<B",
    "TYPE_UINT16": "<H",
    "TYPE_UINT32": "<I",
    "TYPE_UINT64": "<Q",
    "TYPE_INT8": "<b",
    "TYPE_INT16": "<h",
    "TYPE_INT32": "<i",
    "TYPE_INT64": "<q",
    "TYPE_FP16": "<e",
    "TYPE_FP32": "<f",
    "TYPE_FP64": "<d",
    "TYPE_BF16": "<f",
}
_BOOLEANS = {"": b"\0", "0": b"\0", "false": b"\0", "1": b"\1", "true": b"\1"}


@dataclass(frozen=True)
class Axis:
    """A length that differs between requests."""

    name: str
    #: ascending
    buckets: tuple[int, ...]
    #: a batch is padded to its longest request, and not to the bucket
    to_longest: bool
    #: the model's input that gets the lengths, and its wire type; "" and "" where there is none
    lengths: tuple[str, str]


@dataclass
class PaddedTensor:
    """A tensor of the model and its padded dimensions: (dimension, the batch dimension being 0; index of the axis)."""

    places: list[tuple[int, int]] = field(default_factory=list)
    #: the element to pad with, as on the wire; of an input
    fill: bytes = b""


@dataclass(frozen=True)
class Padding:
    """All that a model's parameters say of padding; tensors by name."""

    axes: list[Axis] = field(default_factory=list)
    inputs: dict[str, PaddedTensor] = field(default_factory=dict)
    outputs: dict[str, PaddedTensor] = field(default_factory=dict)


def padding_of(config: Mapping[str, Any]) -> Padding | None:
    """The padding of a valid, normalized configuration; None where it has none."""
    padding = _Reader(config).padding
    return padding if padding.axes else None


def padding_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with the parameters ``padding.*`` of a normalized configuration."""
    for fault in _Reader(config).faults:
        yield fault._replace(message=f"{fault.message} for {config['name']}")


class _Reader:
    """Reads as much as it can, and notes what is wrong."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.padding = Padding()
        self.faults: list[Fault] = []
        self._config = config
        axes: dict[str, dict[str, str]] = {}
        for key, entry in sorted(config.get("parameters", {}).items()):
            if key.startswith("padding."):
                self._note(axes, key, entry["string_value"].strip())
        if axes:
            self._model()
        for index, (name, given) in enumerate(axes.items()):
            self._axis(index, name, given)

    def _fault(self, message: str, needs: str = "") -> None:
        self.faults.append(Fault(message, ("parameters",), needs))

    def _note(self, axes: dict[str, dict[str, str]], key: str, value: str) -> None:
        match = _KEY.fullmatch(key)
        if match is None:
            self._fault(f"parameter '{key}' must be padding.AXIS.{{{','.join(_FIELDS)}}}; AXIS is a name without dots")
        elif match[2] not in _FIELDS:
            close = difflib.get_close_matches(match[2], _FIELDS, 1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; there are {', '.join(_FIELDS)}"
            self._fault(f"parameter '{key}' is unknown{hint}")
        else:
            axes.setdefault(match[1], {})[match[2]] = value

    def _model(self) -> None:
        """Padding makes batches of rows that have nothing to do with each other."""
        for kind in ("sequence_batching", "ensemble_scheduling"):
            if kind in self._config:
                self._fault(f"padding can not be combined with {kind}")
        if "ensemble_scheduling" not in self._config and self._config["max_batch_size"] == 0:
            self._fault("padding needs a batch dimension: max_batch_size must be above 0", "max_batch_size")

    def _axis(self, index: int, name: str, given: Mapping[str, str]) -> None:
        key = f"padding.{name}"
        if not given.get("inputs"):
            self._fault(f"parameter '{key}.inputs' must name the inputs that are padded")
        buckets, to_longest = self._buckets(f"{key}.buckets", given.get("buckets", ""))
        lengths = self._lengths(f"{key}.lengths", given["lengths"]) if "lengths" in given else ("", "")
        self.padding.axes.append(Axis(name, buckets, to_longest, lengths))
        for kind in ("input", "output"):
            for entry in given.get(f"{kind}s", "").split(","):
                if entry.strip():
                    self._tensor(index, f"{key}.{kind}s", kind, entry.strip())

    def _buckets(self, key: str, text: str) -> tuple[tuple[int, ...], bool]:
        to_longest = text.startswith(_LONGEST)
        rule = text.removeprefix(_LONGEST)
        buckets: list[int] = []
        if match := _UP_TO.fullmatch(text):
            buckets, to_longest = [int(match[1])], True
        elif _LIST.fullmatch(rule):
            buckets = [int(number) for number in rule.split(",")]
        elif match := _MULTIPLES.fullmatch(rule):
            step, last = int(match[1]), int(match[2])
            if step and last // step <= _MOST_BUCKETS:
                buckets = [*range(step, last, step), last]
        elif match := _POWERS.fullmatch(rule):
            first, last = int(match[1] or 1), int(match[2])
            powers = (1 << power for power in range(_LONGEST_BUCKET.bit_length()))
            buckets = [*(power for power in powers if first <= power < last), last]
        else:
            self._fault(f"parameter '{key}' must say to which lengths requests are padded, as {_RULES}, got '{text}'")
            return (), to_longest
        ascend = all(a < b for a, b in pairwise(buckets))
        if not buckets or len(buckets) > _MOST_BUCKETS or buckets[0] < 1 or buckets[-1] > _LONGEST_BUCKET or not ascend:
            self._fault(
                f"parameter '{key}' must mean at most {_MOST_BUCKETS} lengths that ascend from 1 to {_LONGEST_BUCKET}, "
                f"got '{text}'"
            )
        return tuple(buckets), to_longest

    def _lengths(self, key: str, text: str) -> tuple[str, str]:
        match = _LENGTHS.fullmatch(text)
        if match is None:
            self._fault(f"parameter '{key}' must be an input of the model and TYPE_INT32 or TYPE_INT64, got '{text}'")
            return "", ""
        targets = [name for one in self._config["batch_input"] for name in one["target_name"]]
        others = [axis.lengths[0] for axis in self.padding.axes]
        if match[1] in [*(io["name"] for io in self._config["input"]), *targets, *others]:
            self._fault(f"parameter '{key}': '{match[1]}' is an input already")
        return match[1], match[2]

    def _tensor(self, axis: int, key: str, kind: str, entry: str) -> None:
        where = f"parameter '{key}': {kind}"
        match = _ENTRY.fullmatch(entry)
        if match is None or (kind == "output" and match["value"] is not None):
            example = "NAME, NAME[1] or NAME[1]=0" if kind == "input" else "NAME or NAME[1]"
            self._fault(f"parameter '{key}' must list {kind}s as {example}, got '{entry}'")
            return
        where += f" '{match['name']}'"
        io = next((io for io in self._config[kind] if io["name"] == match["name"]), None)
        if io is None:
            self._fault(f"{where} is unknown", kind)
            return
        self._plain(where, kind, io)
        dim = self._dimension(where, kind, io, match["dim"])
        tensors = self.padding.inputs if kind == "input" else self.padding.outputs
        tensor = tensors.setdefault(match["name"], PaddedTensor())
        if dim in [place[0] for place in tensor.places]:
            self._fault(f"{where} is padded twice along dimension {dim}")
        elif dim is not None:
            tensor.places.append((dim, axis))
        if kind == "input":
            fill = self._fill(where, io["data_type"], match["value"])
            if len(tensor.places) > 1 and fill != tensor.fill:
                self._fault(f"{where} is padded with two different values")
            tensor.fill = fill

    def _plain(self, where: str, kind: str, io: Mapping[str, Any]) -> None:
        """Nothing else decides on the shape of what is padded."""
        for flag in ("reshape", "allow_ragged_batch", "is_shape_tensor"):
            if io.get(flag):
                self._fault(f"{where} has '{flag}' and can not be padded", kind)
        sources = (*self._config["batch_input"], *self._config["batch_output"])
        named = [name for one in sources for name in (*one["source_input"], *one["target_name"])]
        if io["name"] in named:
            self._fault(f"{where} belongs to batch_input or batch_output and can not be padded", kind)

    def _dimension(self, where: str, kind: str, io: Mapping[str, Any], given: str | None) -> int | None:
        dims = io["dims"]
        variable = [index + 1 for index, dim in enumerate(dims) if dim == -1]
        if given is None and len(variable) == 1:
            return variable[0]
        if given is None:
            many = (
                "no variable dimension"
                if not variable
                else f"{len(variable)} variable dimensions: say which, as {io['name']}[{variable[0]}]"
            )
            self._fault(f"{where} has {many}", kind)
            return None
        if int(given) not in variable:
            shown = ", ".join(str(dim) for dim in (-1, *dims))
            self._fault(
                f"{where}: dimension {given} is not a variable one of [{shown}] (the batch dimension is 0)", kind
            )
            return None
        return int(given)

    def _fill(self, where: str, data_type: str, given: str | None) -> bytes:
        text = (given or "").strip()
        try:
            if data_type == "TYPE_STRING":
                raw = text.encode()
                return struct.pack("<I", len(raw)) + raw
            if data_type == "TYPE_BOOL":
                return _BOOLEANS[text.lower()]
            packing = _FORMATS[data_type]
            if given is None:
                number: int | float = 0
            else:
                number = float(text) if packing[1] in "efd" else int(text)
            packed = struct.pack(packing, number)
        except (KeyError, ValueError, OverflowError, struct.error):
            self._fault(f"{where} can not be padded with '{text}', which is not a {data_type}", "input")
            return b""
        # the upper half of a float is that number as BF16
        return packed[2:] if data_type == "TYPE_BF16" else packed
