# SPDX-License-Identifier: Apache-2.0
"""Reading a broken configuration to its end: every error, at its place, and what can be trusted of the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.config import recover as recover_module
from pyinfer.config.pbtxt import parse, to_json
from pyinfer.config.recover import recover
from pyinfer.config.source import Source, parse_path, path_text
from pyinfer.errors import ConfigError

BROKEN = """\
max_batch_size:
input { name: 'x' datatype: TYPE_FP32 dims: [1, y] }
backend: 'b' foo: 1, bar { a: 1 b { c: 2 } };
output [ { name: 'a' 'b' lbl: 'x' 'y', dims: 1 }, { name: 'z' name: 'zz' } ]
max_batch_size: 7 runtime: "open
dynamic_batching { preferred_batch_size: 'many' }
sequence_batching { }
"""


def test_every_error_is_told_and_the_rest_is_kept():
    found = recover(BROKEN, "m/config.pbtxt")
    assert [(error.line, error.column, error.field) for error in found.errors] == [
        (2, 1, "max_batch_size"),
        (2, 19, "input[0].datatype"),
        (2, 49, "input[0].dims"),
        (3, 14, "foo"),
        (3, 22, "bar"),
        (4, 26, "output[0].lbl"),
        (4, 69, "output[1].name"),
        (5, 28, "runtime"),
        (6, 42, "dynamic_batching.preferred_batch_size"),
        (7, 1, "sequence_batching"),
    ]
    assert all(error.file == "m/config.pbtxt" for error in found.errors)
    config = to_json(found.config)
    assert (config["max_batch_size"], config["backend"]) == (7, "b")
    assert [io["name"] for io in config["output"]] == ["ab", "z"]
    # the unknown name stands for the field that was meant, unless that one is set
    assert ("input", 0, "data_type") in found.lost
    assert found.source.locate(("output", 1)) == (4, 51)


def test_what_is_right_has_no_errors():
    found = recover(b"\xef\xbb\xbfname: 'a' input { dims: [1,\n 2] }")
    assert (found.errors, found.lost) == ((), ())
    assert to_json(found.config)["input"][0]["dims"] == [1, 2]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("input { name: 'x' ", ["1:15: field 'input[0].name': Expected \"}\"."]),
        ("foo: 1 input { name: 'x'", ["1:1: field 'foo'", "1:22: field 'input[0].name'"]),
        ("name: 'x' } max_batch_size: 'a'", ["1:11: field 'name': Expected identifier"]),
        ("\x00", ["1:1: Expected identifier"]),
        (b"a\xff", ["1:2: not UTF-8 text"]),
        ("input {" * 200, [":"]),
    ],
)
def test_a_text_without_structure_ends_at_its_first_such_error(text, errors):
    found = recover(text)
    assert found.config is None
    assert len(found.errors) == len(errors)
    for error, expected in zip(found.errors, errors, strict=True):
        assert expected in str(error)


def test_work_is_bounded(monkeypatch):
    assert len(recover("foo: 1\n" * 120).errors) == 100
    monkeypatch.setattr(recover_module, "_MOST_CHARACTERS", 1000)
    assert len(recover("foo: 1\n" * 120).errors) == 1
    assert len(recover("foo: 1\n" * 20).errors) == 7


def test_a_guess_does_not_hide_what_is_set():
    assert recover("max_batch_size: 1 max_batch_sise: 2").lost == (("max_batch_sise",),)
    assert recover("max_batch_sise: 2").lost == (("max_batch_size",),)


PIECES = st.sampled_from(
    [
        *"{}[]<>:;,'\"#\n\\ ",
        "name",
        "input",
        "dims",
        "max_batch_size",
        "1",
        "-1",
        "'a'",
        "TYPE_FP32",
        "nme",
        "oneof",
        "\x00",
    ]
)


@given(st.lists(PIECES, max_size=40).map(" ".join) | st.text(max_size=60) | st.binary(max_size=40))
def test_any_text_is_read(text):
    found = recover(text)
    first = _first_error(text)
    if first is None:
        assert found.errors == ()
        assert found.config == parse(text)
    else:
        # the one that stops a server
        assert first in map(str, found.errors)


def _first_error(text):
    try:
        parse(text)
    except ConfigError as error:
        return str(error)
    return None


@given(st.text(max_size=80))
def test_places_and_extents_are_within_the_text(text):
    source = Source(text=text)
    for offset in range(len(text)):
        extent = source.extent_at(offset)
        assert extent is None or 0 <= extent[0] <= offset < extent[1] <= len(text)


@pytest.mark.parametrize("path", [(), ("name",), ("input", 0, "dims"), ("a", "b", 12, "c", 0)])
def test_a_path_is_read_back_from_its_text(path):
    assert parse_path(path_text(path)) == path
