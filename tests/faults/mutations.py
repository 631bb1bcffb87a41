# SPDX-License-Identifier: Apache-2.0
"""Configurations that are almost right: 500 texts, the same in every run. It does NOT say which of them are wrong."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

__all__ = ["GOOD", "mutations"]

GOOD = """\
name: "mutant"
backend: "identity"
max_batch_size: 8
input [
  {
    name: "INPUT0"
    data_type: TYPE_FP32
    dims: [ 4 ]
  }
]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { name: "g" count: 1 kind: KIND_CPU } ]
dynamic_batching {
  preferred_batch_size: [ 2, 4 ]
  max_queue_delay_microseconds: 100
  default_queue_policy { max_queue_size: 16 }
}
version_policy { latest { num_versions: 1 } }
parameters { key: "execute_delay_ms" value { string_value: "0" } }
"""
#: fields that GOOD does not have, some of them of models that this version does not serve
MORE = (
    'output { name: "OUTPUT1" data_type: TYPE_INT32 dims: 4 label_filename: "../labels.txt" }',
    'output { name: "OUTPUT1" label_filename: "labels.txt" reshape { shape: [ 2, 2 ] } }',
    "sequence_batching { control_input { control { kind: CONTROL_SEQUENCE_START } } oldest { } }",
    "ensemble_scheduling { step { model_name: 'mutant' } }",
    "batch_input { kind: BATCH_ELEMENT_COUNT source_input: 'nix' }",
    "model_warmup { name: 'w' batch_size: 1 inputs { key: 'INPUT0' value { input_data_file: '/etc/passwd' } } }",
    "response_cache { enable: true } model_transaction_policy { decoupled: true }",
    "cc_model_filenames { key: '7.5' value: '../x' }",
    "default_model_filename: '/dev/zero'",
    "model_metrics { metric_control { } }",
    "model_repository_agents { agents { name: 'checksum' } }",
    "optimization { execution_accelerators { gpu_execution_accelerator { name: 'tensorrt' } } }",
    "input { name: 'INPUT0' data_type: TYPE_FP32 dims: 4 }",
    "platform: 'ensemble'",
    "runtime: '../../libevil.so'",
)
VALUES = (
    *(
        "0",
        "-1",
        "-2",
        "1",
        "2147483648",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "1e999",
    ),
    *(
        "nan",
        "inf",
        "true",
        '""',
        '"x"',
        "'../../x'",
        "TYPE_INVALID",
        "TYPE_FP",
        "KIND_GPU",
        "KIND_AUTO",
        "99",
        "{}",
        "[]",
    ),
    *(
        '"\\000"',
        '"\\377\\376"',
        '"' + "x" * 5000 + '"',
        '"%s%n"',
        '"\x1b[31m"',
        "[ -1, 0 ]",
        "[ 4294967296, 4294967296 ]",
    ),
)
CHARACTERS = "{}[]<>:;,\"'#\\\n\t\r \0\x1b\x7f\u2028éx09-."

Change = Callable[[random.Random, str], str]


def _lines(change: Callable[[random.Random, list[str]], None]) -> Change:
    def changed(chance: random.Random, text: str) -> str:
        lines = text.splitlines(keepends=True)
        change(chance, lines)
        return "".join(lines)

    return changed


def _drop_line(chance: random.Random, lines: list[str]) -> None:
    del lines[chance.randrange(len(lines))]


def _repeat_line(chance: random.Random, lines: list[str]) -> None:
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))


def _swap_lines(chance: random.Random, lines: list[str]) -> None:
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]


def _add_field(chance: random.Random, lines: list[str]) -> None:
    lines.insert(chance.choice((0, len(lines))), chance.choice(MORE) + "\n")


def _other_value(chance: random.Random, text: str) -> str:
    found = chance.choice(list(re.finditer(r"(?<=: )(\"[^\"]*\"|[\w.-]+|\[[^\]{]*\])", text)))
    return text[: found.start()] + chance.choice(VALUES) + text[found.end() :]


def _other_name(chance: random.Random, text: str) -> str:
    found = chance.choice(list(re.finditer(r"\w+(?=: | \{| \[)", text)))
    name = chance.choice(
        (found[0][:-1], found[0] + "s", found[0].upper(), "input", "step", "dims", "key", "no_such_field")
    )
    return text[: found.start()] + name + text[found.end() :]


def _other_character(chance: random.Random, text: str) -> str:
    place = chance.randrange(len(text))
    return text[:place] + chance.choice(CHARACTERS) + text[place + chance.randrange(2) :]


def _cut(chance: random.Random, text: str) -> str:
    return text[: chance.randrange(len(text))]


def _lose_a_brace(chance: random.Random, text: str) -> str:
    place = chance.choice([found.start() for found in re.finditer(r"[{}\[\]]", text)])
    return text[:place] + text[place + 1 :]


def _nest(chance: random.Random, text: str) -> str:
    depth = chance.choice((50, 150, 5000))
    return text + chance.choice(("parameters { ", "input { ", "a { ")) * depth + "}" * chance.choice((0, depth))


CHANGES: tuple[Change, ...] = (
    *map(_lines, (_drop_line, _repeat_line, _swap_lines, _add_field)),
    *(_other_value, _other_value, _other_name, _other_character, _cut, _lose_a_brace, _nest),
)


def mutations(count: int = 500) -> list[str]:
    """``count`` texts, each made of GOOD by one to three changes."""
    chance = random.Random(36)
    texts = []
    for number in range(count):
        text = CHANGES[number % len(CHANGES)](chance, GOOD)
        for _ in range(chance.choice((0, 0, 1, 2))):
            text = chance.choice(CHANGES[:8])(chance, text) if len(text.splitlines()) > 3 else text
        texts.append(text)
    return texts
