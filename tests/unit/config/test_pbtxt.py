# SPDX-License-Identifier: Apache-2.0
"""Text, message and JSON form of a model configuration."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinfer.config.messages import message
from pyinfer.config.pbtxt import canonical, from_json, parse, to_json
from pyinfer.config.source import Source, path_text
from pyinfer.errors import ConfigError

TEXT = """\
# a comment with input { in it
name: "mlp"
backend: "onnxruntime"
max_batch_size: 64
input [
  { name: "x" data_type: TYPE_FP32 dims: [ 256 ] },
  {
    name: "it's { \\" y"
    data_type: TYPE_STRING
    dims: [ -1, 2 ]
  }
]
output { name: "o" data_type: TYPE_FP32 dims: 10 label_filename: 'labels.txt' }
output < name: "p" data_type: TYPE_FP32 dims: 10 >
dynamic_batching {
  preferred_batch_size: [ 8, 16 ]
  max_queue_delay_microseconds: 100
  default_queue_policy { max_queue_size: 1000 }
}
parameters { key: "a" value { string_value: "1" } }
parameters { key: "b" value { string_value: "2" } }
"""

SYNTAX_ERRORS = [
    ("foo: 1", "m/config.pbtxt:1:1: field 'foo': ModelConfig has no field 'foo'"),
    (
        'name: "m"\n  max_batch_sise: 1',
        (
            "m/config.pbtxt:2:3: field 'max_batch_sise': ModelConfig has no field 'max_batch_sise'; "
            "did you mean 'max_batch_size'?"
        ),
    ),
    (
        "input [\n {name: 'a'},\n {name: 'b' datatype: TYPE_FP32}]",
        "m/config.pbtxt:3:13: field 'input[1].datatype': ModelInput has no field 'datatype'; did you mean 'data_type'?",
    ),
    (
        "input { data_type: FP32 }",
        "m/config.pbtxt:1:20: field 'input[0].data_type': Enum type \"inference.DataType\" has no value named FP32.",
    ),
    ('max_batch_size: "x"', "m/config.pbtxt:1:17: field 'max_batch_size': Couldn't parse integer: \"x\""),
    ("max_batch_size: 99999999999", "m/config.pbtxt:1:17: field 'max_batch_size': Value out of range: 99999999999"),
    ("name: 3", "m/config.pbtxt:1:7: field 'name': Expected string but found: '3'"),
    ("\n\ninput { dims: [1, x] }", "m/config.pbtxt:3:19: field 'input[0].dims': Couldn't parse integer: x"),
    (
        "response_cache { enable: maybe }",
        'm/config.pbtxt:1:26: field \'response_cache.enable\': Expected "true" or "false".',
    ),
    (
        "dynamic_batching { }\nsequence_batching { }",
        (
            "m/config.pbtxt:2:1: field 'sequence_batching': Field \"sequence_batching\" is specified along with field "
            '"dynamic_batching", another member of oneof "scheduling_choice" for message type "inference.ModelConfig".'
        ),
    ),
    (b'name: "a"\n  \xff', "m/config.pbtxt:2:3: not UTF-8 text"),
]


@pytest.mark.parametrize(("text", "error"), SYNTAX_ERRORS)
def test_errors_say_file_line_column_and_field(text, error):
    with pytest.raises(ConfigError) as caught:
        parse(text, "m/config.pbtxt")
    assert str(caught.value) == error
    assert caught.value.file == "m/config.pbtxt"
    assert f"{caught.value.line}:{caught.value.column}" in error


def test_unclosed_scope_and_missing_value_are_placed():
    for text, field in (("input {", "input[0]"), ("name", "name"), ('name: "a', "name")):
        with pytest.raises(ConfigError, match=r"^config\.pbtxt:1:\d+: ") as caught:
            parse(text)
        assert f"field '{field}'" in str(caught.value)


def test_text_becomes_json():
    config = to_json(parse(TEXT))
    assert config["max_batch_size"] == 64
    assert [io["dims"] for io in config["input"]] == [[256], [-1, 2]]
    assert config["input"][1]["name"] == "it's { \" y"
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 100
    assert config["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 1000
    assert config["parameters"] == {"a": {"string_value": "1"}, "b": {"string_value": "2"}}


def test_byte_order_mark_and_crlf():
    assert to_json(parse(b'\xef\xbb\xbfname: "a"\r\nmax_batch_size: 2\r\n'))["max_batch_size"] == 2


def test_json_prints_defaults_and_keeps_presence():
    config = to_json(message("ModelConfig")())
    assert config == {
        "name": "",
        "platform": "",
        "backend": "",
        "runtime": "",
        "max_batch_size": 0,
        "input": [],
        "output": [],
        "batch_input": [],
        "batch_output": [],
        "instance_group": [],
        "default_model_filename": "",
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
    }
    batching = to_json(parse("dynamic_batching {}"))["dynamic_batching"]
    assert batching == {
        "preferred_batch_size": [],
        "max_queue_delay_microseconds": 0,
        "preserve_ordering": False,
        "priority_levels": 0,
        "default_priority_level": 0,
        "priority_queue_policy": {},
    }


def test_json_numbers_enums_map_keys_and_floats():
    config = to_json(
        parse(
            "input { name: 'x' data_type: TYPE_STRING dims: 9223372036854775807 }"
            "sequence_batching { direct { minimum_slot_utilization: 0.1 } }"
            "instance_group { kind: KIND_CPU }"
            "model_metrics { metric_control { histogram_options { buckets: [0.1, inf] } } }"
        )
    )
    assert config["input"][0]["dims"] == [2**63 - 1]
    assert config["input"][0]["data_type"] == "TYPE_STRING"
    assert config["sequence_batching"]["direct"]["minimum_slot_utilization"] == 0.1
    assert config["instance_group"][0]["kind"] == "KIND_CPU"
    assert config["model_metrics"]["metric_control"][0]["histogram_options"]["buckets"] == [0.1, "Infinity"]
    policies = to_json(parse("dynamic_batching { priority_queue_policy { key: 2 value { max_queue_size: 1 } } }"))
    assert list(policies["dynamic_batching"]["priority_queue_policy"]) == ["2"]


def test_both_spellings_of_names_and_of_integers():
    snake = {"max_batch_size": 4, "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [3, -1]}]}
    camel = {"maxBatchSize": "4", "input": [{"name": "x", "dataType": 11, "dims": ["3", "-1"]}]}
    assert canonical(snake) == canonical(camel) == to_json(from_json(json.dumps(camel)))


JSON_ERRORS = [
    ('{"foo": 1}', "ModelConfig has no field 'foo'"),
    ('{"max_batch_sise": 1}', "ModelConfig has no field 'max_batch_sise'; did you mean 'max_batch_size'?"),
    ("[1]", "expected a JSON object, got list"),
    ("{", "not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
]


@pytest.mark.parametrize(("data", "error"), JSON_ERRORS)
def test_json_errors(data, error):
    with pytest.raises(ConfigError) as caught:
        from_json(data)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ('{"maxBatchSize": "x"}', "maxBatchSize"),
        ('{"max_batch_size": 1.5}', "max_batch_size"),
        ('{"max_batch_size": 3000000000}', "max_batch_size"),
        ('{"input": 3}', "input"),
        ('{"input": [{"dims": ["x"]}]}', "dims"),
        ('{"input": [{"data_type": "FP32"}]}', "data_type"),
        ('{"name": 3}', "name"),
        ('{"parameters": {"a": 3}}', "parameters"),
    ],
)
def test_json_type_errors_name_the_field(data, field):
    with pytest.raises(ConfigError, match=field):
        from_json(data)


@pytest.mark.parametrize(
    "data", ["", "null", "nan", "[" * 100_000, '{"max_batch_size": ' + "9" * 5000 + "}", b"\xff{}"]
)
def test_bad_json_is_a_config_error(data):
    with pytest.raises(ConfigError):
        from_json(data)


# ---- any configuration: random messages from the descriptors


def _scalars(field):
    whole = {
        field.TYPE_INT32: (-(2**31), 2**31 - 1),
        field.TYPE_UINT32: (0, 2**32 - 1),
        field.TYPE_INT64: (-(2**63), 2**63 - 1),
        field.TYPE_UINT64: (0, 2**64 - 1),
    }
    if field.type in whole:
        return st.integers(*whole[field.type])
    if field.type == field.TYPE_ENUM:
        return st.sampled_from([value.name for value in field.enum_type.values])
    if field.type == field.TYPE_BOOL:
        return st.booleans()
    if field.type == field.TYPE_STRING:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    return st.floats(width=32 if field.type == field.TYPE_FLOAT else 64, allow_nan=False, allow_infinity=False)


def _configs(descriptor):
    """JSON forms of any message of the type, with at most one member of each oneof."""

    @st.composite
    def build(draw):
        values = {}
        for field in descriptor.fields:
            if not draw(st.integers(0, 2)):
                oneof = field.containing_oneof
                if oneof and any(other.name in values for other in oneof.fields):
                    continue
                entry = field.message_type
                if entry is not None and entry.GetOptions().map_entry:
                    keys = _scalars(entry.fields_by_name["key"]).map(str)
                    value = entry.fields_by_name["value"]
                    values[field.name] = draw(st.dictionaries(keys, _value(value), max_size=2))
                elif isinstance(field.default_value, list):
                    values[field.name] = draw(st.lists(_value(field), max_size=2))
                else:
                    values[field.name] = draw(_value(field))
        return values

    return build()


def _value(field):
    return _configs(field.message_type) if field.message_type else _scalars(field)


@settings(max_examples=60, deadline=None)
@given(_configs(message("ModelConfig").DESCRIPTOR))
def test_json_round_trip(config):
    full = canonical(config)
    assert canonical(full) == full
    assert to_json(from_json(json.dumps(full))) == full
    assert from_json(full) == from_json(config)


@settings(max_examples=50, deadline=None)
@given(_configs(message("ModelConfig").DESCRIPTOR))
def test_text_round_trip(config):
    original = from_json(config)
    assert parse(str(original).encode()) == original


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_mutated_text_is_read_or_refused(data):
    text = TEXT.encode()
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 8)))
    junk = st.one_of(
        st.binary(max_size=6), st.sampled_from([b"{", b"}", b"[", b"]", b'"', b":", b"-", b"1e9", b"\\x", b"<"])
    )
    mutated = text[:start] + data.draw(junk) + text[stop:]
    refused = None
    try:
        config = parse(mutated)
    except ConfigError as error:
        refused = error
    if refused is None:
        assert canonical(to_json(config)) == to_json(config)
    else:
        assert str(refused).startswith("config.pbtxt:")
        assert refused.line is not None


# ---- positions


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("name",), (2, 1)),
        (("input", 0), (5, 1)),
        (("input", 0, "dims"), (6, 36)),
        (("input", 1), (7, 3)),
        (("input", 1, "dims"), (10, 5)),
        (("output", 0, "label_filename"), (13, 50)),
        (("output", 1, "name"), (14, 10)),
        (("dynamic_batching", "preferred_batch_size"), (16, 3)),
        (("dynamic_batching", "default_queue_policy", "max_queue_size"), (18, 26)),
        (("dynamic_batching", "preserve_ordering"), (15, 1)),
        (("parameters", 1), (21, 1)),
        (("backend",), (3, 1)),
        (("platform",), (None, None)),
        ((), (None, None)),
    ],
)
def test_positions(path, place):
    assert Source(text=TEXT).locate(path) == place


def test_field_at():
    source = Source(text=TEXT)
    assert source.field_at(1, 1) == ()
    assert source.field_at(10, 14) == ("input", 1, "dims", 0)
    assert path_text(("input", 1, "dims")) == "input[1].dims"


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from(list("ab{}[]<>:\",;#'\n 1-\\")), max_size=40))
def test_positions_of_any_text(text):
    source = Source(text=text)
    for line, row in enumerate(text.split("\n"), 1):
        path = source.field_at(line, len(row) + 1)
        assert path == () or source.locate(path) <= (line, len(row) + 1)
