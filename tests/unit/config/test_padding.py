# SPDX-License-Identifier: Apache-2.0
"""What the parameters ``padding.*`` mean, and the exact text where they mean nothing."""

from __future__ import annotations

import struct

import pytest

from pyinfer.config.normalize import normalize
from pyinfer.config.padding import Padding, padding_of
from pyinfer.config.pbtxt import parse, to_json
from pyinfer.config.validate import faults

TOKENS = """
name: "m" backend: "b" max_batch_size: 8
input { name: "ids" data_type: TYPE_INT64 dims: [ -1 ] }
input { name: "mask" data_type: TYPE_INT64 dims: [ -1 ] }
input { name: "picture" data_type: TYPE_UINT8 dims: [ 3, -1, -1 ] }
input { name: "fixed" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "hidden" data_type: TYPE_FP32 dims: [ -1, 384 ] }
output { name: "pooled" data_type: TYPE_FP32 dims: [ 384 ] }
"""


def config(parameters: dict[str, str], base: str = TOKENS) -> dict[str, object]:
    text = base + "".join(
        f'parameters {{ key: "{k}" value {{ string_value: "{v}" }} }}\n' for k, v in parameters.items()
    )
    return normalize(to_json(parse(text.encode(), "m/config.pbtxt")))


def read(parameters: dict[str, str], base: str = TOKENS) -> Padding:
    made = config(parameters, base)
    assert [fault.message for fault in faults(made)] == []
    padding = padding_of(made)
    assert padding is not None
    return padding


def tokens(**given: str) -> dict[str, str]:
    """Parameters of an axis that pads ``ids``; a ``field=""`` leaves it out."""
    fields = {"inputs": "ids", "buckets": "16"} | given
    return {f"padding.tokens.{field}": text for field, text in fields.items() if text}


def test_none_unless_configured() -> None:
    assert padding_of(config({"padded": "yes", "session.x": "1"})) is None


def test_a_text_encoder() -> None:
    padding = read(tokens(inputs="ids=7, mask", buckets="16, 32,64", outputs="hidden", lengths="sizes TYPE_INT32"))
    [axis] = padding.axes
    assert (axis.name, axis.buckets, axis.to_longest, axis.lengths) == (
        "tokens",
        (16, 32, 64),
        False,
        ("sizes", "INT32"),
    )
    assert padding.inputs["ids"].places == padding.inputs["mask"].places == padding.outputs["hidden"].places == [(1, 0)]
    assert padding.inputs["ids"].fill == struct.pack("<q", 7)
    assert padding.inputs["mask"].fill == bytes(8)


def test_two_axes_of_one_tensor() -> None:
    padding = read(
        {
            "padding.width.inputs": "picture[3]=255",
            "padding.width.buckets": "32",
            "padding.height.inputs": "picture[2]=255",
            "padding.height.buckets": "longest up to 64",
        }
    )
    assert [axis.name for axis in padding.axes] == ["height", "width"]
    assert padding.inputs["picture"].places == [(2, 0), (3, 1)]
    assert padding.inputs["picture"].fill == b"\xff"


@pytest.mark.parametrize(
    ("text", "buckets", "to_longest"),
    [
        ("1", (1,), False),
        ("multiples of 8 up to 32", (8, 16, 24, 32), False),
        ("multiples of 8 up to 30", (8, 16, 24, 30), False),
        ("multiples of 8 up to 5", (5,), False),
        ("powers of 2 up to 8", (1, 2, 4, 8), False),
        ("powers of 2 from 16 up to 100", (16, 32, 64, 100), False),
        ("powers of 2 from 10 up to 20", (16, 20), False),
        ("longest up to 512", (512,), True),
        ("longest within 8, 32", (8, 32), True),
        ("longest within multiples of 2 up to 6", (2, 4, 6), True),
    ],
)
def test_buckets(text: str, buckets: tuple[int, ...], to_longest: bool) -> None:
    [axis] = read(tokens(buckets=text)).axes
    assert (axis.buckets, axis.to_longest) == (buckets, to_longest)


@pytest.mark.parametrize(
    ("data_type", "value", "fill"),
    [
        ("TYPE_BOOL", "true", b"\1"),
        ("TYPE_BOOL", None, b"\0"),
        ("TYPE_INT8", "-1", b"\xff"),
        ("TYPE_FP16", "1.5", struct.pack("<e", 1.5)),
        ("TYPE_BF16", "1", b"\x80\x3f"),
        ("TYPE_FP32", "-inf", struct.pack("<f", float("-inf"))),
        ("TYPE_FP64", None, bytes(8)),
        ("TYPE_STRING", "[PAD]", b"\5\0\0\0[PAD]"),
        ("TYPE_STRING", None, bytes(4)),
    ],
)
def test_values(data_type: str, value: str | None, fill: bytes) -> None:
    base = f'name: "m" backend: "b" max_batch_size: 8 input {{ name: "ids" data_type: {data_type} dims: [ -1 ] }} '
    padding = read(tokens(inputs="ids" if value is None else f"ids={value}"), base)
    assert padding.inputs["ids"].fill == fill


#: every message begins so but for the field, and ends with the model
PARAMETER = "parameter 'padding.tokens."
NOT_A_RULE = (
    PARAMETER + "buckets' must say to which lengths requests are padded, as '16, 32, 64', 'multiples of "
    "16 up to 512', 'powers of 2 up to 512' or 'longest up to 512', got '{}'"
)
NO_LENGTHS = PARAMETER + "buckets' must mean at most 65536 lengths that ascend from 1 to 16777216, got '{}'"
FAULTS = [
    (
        {"padding.inputs": "ids"},
        "parameter 'padding.inputs' must be padding.AXIS.{inputs,buckets,outputs,lengths}; AXIS is a name without dots",
    ),
    (tokens(bucket="16"), PARAMETER + "bucket' is unknown; did you mean 'buckets'?"),
    (tokens(value="16"), PARAMETER + "value' is unknown; there are inputs, buckets, outputs, lengths"),
    (tokens(inputs=""), PARAMETER + "inputs' must name the inputs that are padded"),
    (tokens(buckets=""), NOT_A_RULE.format("")),
    (tokens(buckets="step 16"), NOT_A_RULE.format("step 16")),
    (tokens(buckets="longest"), NOT_A_RULE.format("longest")),
    (tokens(buckets="16, 8"), NO_LENGTHS.format("16, 8")),
    (tokens(buckets="0, 8"), NO_LENGTHS.format("0, 8")),
    (tokens(buckets="multiples of 0 up to 8"), NO_LENGTHS.format("multiples of 0 up to 8")),
    (tokens(buckets="multiples of 1 up to 9999999"), NO_LENGTHS.format("multiples of 1 up to 9999999")),
    (tokens(buckets="longest up to 99999999999"), NO_LENGTHS.format("longest up to 99999999999")),
    (tokens(inputs="idz"), PARAMETER + "inputs': input 'idz' is unknown"),
    (tokens(outputs="ids"), PARAMETER + "outputs': output 'ids' is unknown"),
    (tokens(inputs="ids[1"), PARAMETER + "inputs' must list inputs as NAME, NAME[1] or NAME[1]=0, got 'ids[1'"),
    (tokens(outputs="hidden=0"), PARAMETER + "outputs' must list outputs as NAME or NAME[1], got 'hidden=0'"),
    (tokens(inputs="fixed"), PARAMETER + "inputs': input 'fixed' has no variable dimension"),
    (
        tokens(inputs="picture"),
        PARAMETER + "inputs': input 'picture' has 2 variable dimensions: say which, as picture[2]",
    ),
    (
        tokens(inputs="ids[0]"),
        PARAMETER + "inputs': input 'ids': dimension 0 is not a variable one of [-1, -1] (the batch dimension is 0)",
    ),
    (
        tokens(outputs="hidden[2]"),
        PARAMETER
        + "outputs': output 'hidden': dimension 2 is not a variable one of [-1, -1, 384] (the batch dimension is 0)",
    ),
    (tokens(inputs="ids, ids"), PARAMETER + "inputs': input 'ids' is padded twice along dimension 1"),
    (
        tokens(inputs="picture[2], picture[3]=1"),
        PARAMETER + "inputs': input 'picture' is padded with two different values",
    ),
    (
        tokens(inputs="ids=pad"),
        PARAMETER + "inputs': input 'ids' can not be padded with 'pad', which is not a TYPE_INT64",
    ),
    (
        tokens(inputs="picture[2]=256"),
        PARAMETER + "inputs': input 'picture' can not be padded with '256', which is not a TYPE_UINT8",
    ),
    (
        tokens(lengths="sizes"),
        PARAMETER + "lengths' must be an input of the model and TYPE_INT32 or TYPE_INT64, got 'sizes'",
    ),
    (tokens(lengths="mask TYPE_INT64"), PARAMETER + "lengths': 'mask' is an input already"),
]


@pytest.mark.parametrize(("parameters", "message"), FAULTS)
def test_faults(parameters: dict[str, str], message: str) -> None:
    assert [fault.message for fault in faults(config(parameters))] == [f"{message} for m"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_batch_size: 8", "", "padding needs a batch dimension: max_batch_size must be above 0"),
        (
            "max_batch_size: 8",
            "max_batch_size: 8 sequence_batching { }",
            "padding can not be combined with sequence_batching",
        ),
        (
            'TYPE_INT64 dims: [ -1 ] }\ninput { name: "mask"',
            'TYPE_INT64 dims: [ -1 ] allow_ragged_batch: true }\ninput { name: "mask"',
            PARAMETER + "inputs': input 'ids' has 'allow_ragged_batch' and can not be padded",
        ),
        (
            'TYPE_INT64 dims: [ -1 ] }\ninput { name: "mask"',
            'TYPE_INT64 dims: [ -1 ] reshape { shape: [ -1, 1 ] } }\ninput { name: "mask"',
            PARAMETER + "inputs': input 'ids' has 'reshape' and can not be padded",
        ),
        (
            'name: "m"',
            'name: "m" batch_input { kind: BATCH_ITEM_SHAPE target_name: "n" data_type: TYPE_FP32 source_input: "ids"}',
            PARAMETER + "inputs': input 'ids' belongs to batch_input or batch_output and can not be padded",
        ),
    ],
)
def test_what_padding_can_not_be_combined_with(old: str, new: str, message: str) -> None:
    assert old in TOKENS
    assert [fault.message for fault in faults(config(tokens(), TOKENS.replace(old, new, 1)))] == [f"{message} for m"]


def test_faults_of_tensors_that_a_backend_may_complete_are_not_certain() -> None:
    [fault] = faults(config(tokens(inputs="other")))
    assert fault.needs == "input"
    assert fault.path == ("parameters",)
