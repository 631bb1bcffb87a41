# SPDX-License-Identifier: Apache-2.0
"""The model repositories that both servers serve: configurations here, programs in ``models/``."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = [
    "CONTROL",
    "DATATYPES",
    "ENSEMBLES",
    "GRAPHS",
    "GUARDED",
    "LIMITED",
    "LIMITS",
    "OPEN",
    "SCHEDULING",
    "VERSIONLESS",
    "Model",
    "write_repository",
]

PROGRAMS = Path(__file__).with_name("models")
_ONE_CPU = "instance_group [ { count: 1 kind: KIND_CPU } ]"

#: data types that a Python model can hold in numpy
DATATYPES = (
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
)


@dataclass(frozen=True)
class Model:
    """A directory of a repository. ``config`` is the text of config.pbtxt; none where empty."""

    name: str
    #: a file of ``models/``, copied into each version; none where empty
    program: str = ""
    config: str = ""
    versions: tuple[str, ...] = ("1",)
    #: further files: path below the model's directory -> text
    files: tuple[tuple[str, str], ...] = ()


def _tensors(kind: str, *tensors: str) -> str:
    """``"NAME TYPE dims rest"`` -> one entry of ``input`` or ``output`` each; dims are joined by commas."""
    entries = []
    for tensor in tensors:
        name, datatype, dims, *rest = tensor.split(" ", 3)
        datatype = "STRING" if datatype == "BYTES" else datatype
        entries.append(f'{{ name: "{name}" data_type: TYPE_{datatype} dims: [ {dims} ] {" ".join(rest)} }}')
    return f"{kind} [ {', '.join(entries)} ]"


def _config(inputs: list[str], outputs: list[str], *, batch: int = 0, backend: str = "python", more: str = "") -> str:
    lines = [f'backend: "{backend}"', f"max_batch_size: {batch}", _tensors("input", *inputs)]
    lines += [_tensors("output", *outputs), _ONE_CPU, more]
    return "\n".join(line for line in lines if line) + "\n"


def _echo(name: str, datatype: str, dims: str, *, batch: int, backend: str = "python") -> Model:
    config = _config([f"INPUT0 {datatype} {dims}"], [f"OUTPUT0 {datatype} {dims}"], batch=batch, backend=backend)
    return Model(name, "echo" if backend == "python" else "", config)


def _identity(name: str, *, more: str = "", versions: tuple[str, ...] = ("1",)) -> Model:
    """Without a process of its own, so that it is cheap to load."""
    config = _config(["INPUT0 FP32 -1"], ["OUTPUT0 FP32 -1"], batch=8, backend="identity", more=more)
    return Model(name, "", config, versions)


def _versions(name: str, policy: str) -> Model:
    config = _config(["INPUT FP32 1"], ["VERSION INT64 1"], more=f"version_policy {{ {policy} }}")
    return Model(name, "version", config, ("1", "2", "3", "10"))


def _sequence(name: str, corrid: str, strategy: str, *, batch: int = 4) -> Model:
    """Flags in each type that they may have; no tensor with the id where ``corrid`` is empty."""
    types = {"START": "int32_false_true: [ 0, 1 ]", "END": "fp32_false_true: [ 0, 1 ]"}
    types["READY"] = "bool_false_true: [ false, true ]"
    kinds = {kind: f"kind: CONTROL_SEQUENCE_{kind} {values}" for kind, values in types.items()}
    if corrid:
        kinds["CORRID"] = f"kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_{corrid}"
    controls = ", ".join(f'{{ name: "{kind}" control [ {{ {control} }} ] }}' for kind, control in kinds.items())
    more = f"sequence_batching {{ max_sequence_idle_microseconds: 60000000 control_input [ {controls} ] {strategy} }}"
    return Model(
        name, "accumulate", _config(["INPUT INT32 1"], ["OUTPUT INT32 1", "CONTROL BYTES 1"], batch=batch, more=more)
    )


_KINDS = [f'{kind} {kind} 4 label_filename: "labels.txt"' for kind in ("FP32", "INT32", "UINT8", "BYTES")]
_KINDS += [f"{kind} {kind} 4" for kind in ("FP64", "INT8", "INT64", "UINT64", "BOOL", "FP16")]
_LABELS = (("labels.txt", "zero\none\ntwo with blanks\n"),)
_DECOUPLED = "model_transaction_policy { decoupled: true }"

#: served by the pair that most requests go to
OPEN: tuple[Model, ...] = (
    *(_echo(kind.lower(), kind, "-1", batch=8) for kind in DATATYPES),
    _echo("bf16", "BF16", "-1", batch=8, backend="identity"),
    _echo("fixed", "FP32", "4", batch=8),
    _echo("flat", "FP32", "-1", batch=0),
    _echo("flat_fixed", "INT32", "2,2", batch=0),
    _echo("flat_text", "BYTES", "1", batch=0),
    _echo("matrix", "INT64", "-1,2", batch=0),
    _echo("cube", "INT32", "-1,-1,2", batch=4),
    Model("pair", "pair", _config(["A INT32 2", "B INT32 2"], ["SUM INT32 2", "DIFFERENCE INT32 2"], batch=8)),
    Model(
        "optional",
        "present",
        _config(["A FP32 1", "B FP32 1 optional: true", "C FP32 1 optional: true"], ["PRESENT BYTES 1"], batch=4),
    ),
    Model(
        "reshape",
        "shape",
        _config(
            ["INPUT FP32 1 reshape { shape: [ ] }"],
            ["OUTPUT FP32 1 reshape { shape: [ ] }", "SHAPE INT64 -1"],
            batch=8,
        ),
    ),
    Model(
        "reshape_flat",
        "shape",
        _config(
            ["INPUT FP32 -1,4 reshape { shape: [ -1, 2, 2 ] }"],
            ["OUTPUT FP32 -1,4 reshape { shape: [ -1, 2, 2 ] }", "SHAPE INT64 -1"],
        ),
    ),
    Model("scores", "kinds", _config(["SCORES FP32 4"], _KINDS, batch=4), files=_LABELS),
    Model("scores_flat", "kinds", _config(["SCORES FP32 4"], _KINDS[:1]), files=_LABELS),
    Model("inspect", "inspect_request", _config(["INPUT FP32 1"], ["REQUEST BYTES 1", "SIZE INT32 1"])),
    Model("fail", "fail", _config(["INPUT FP32 2"], ["OUTPUT FP32 2"], batch=4)),
    Model("repeat", "repeat", _config(["IN INT32 -1"], ["OUT INT32 1", "INDEX UINT32 1"], more=_DECOUPLED)),
    _sequence("sequence", "UINT64", "direct { }"),
    _sequence("sequence_oldest", "INT32", "oldest { max_candidate_sequences: 4 }"),
    _versions("versions_latest", "latest { num_versions: 2 }"),
    _versions("versions_all", "all { }"),
    _versions("versions_specific", "specific { versions: [ 1, 3 ] }"),
    _echo("counted", "FP32", "-1", batch=8),
)

#: loaded and unloaded by requests; one completes its configuration
CONTROL: tuple[Model, ...] = (
    Model("completes", "completes"),
    _identity("first"),
    _identity("second", versions=("1", "3")),
    _identity("third"),
    Model("broken", "", "backend: 7\n"),
    Model("misnamed", "", 'name: "other"\n' + _config(["INPUT0 FP32 -1"], ["OUTPUT0 FP32 -1"], backend="identity")),
    Model("no_backend", "", "max_batch_size: 8\n"),
)

#: one of them has no version
VERSIONLESS: tuple[Model, ...] = (
    _identity("first"),
    Model("no_version", "", _config(["INPUT0 FP32 -1"], ["OUTPUT0 FP32 -1"], backend="identity"), ()),
)

#: behind restricted interfaces, with headers forwarded
GUARDED: tuple[Model, ...] = (
    _identity("plain"),
    Model("inspect", "inspect_request", _config(["INPUT FP32 1"], ["REQUEST BYTES 1", "SIZE INT32 1"])),
)


def _queue(name: str, *policies: str) -> Model:
    """One instance, one request at a time; three priorities, of which the first one has no limits."""
    levels = "priority_levels: 3 default_priority_level: 2 priority_queue_policy { key: 1 value { } }"
    more = f"dynamic_batching {{ {levels} {' '.join(policies)} }}"
    return Model(name, "busy", _config(["MS INT32 1"], ["PLACE INT32 1"], batch=1, more=more))


def _second(policy: str) -> str:
    return f"priority_queue_policy {{ key: 2 value {{ {policy} }} }}"


_ITERATIVE = "sequence_batching { iterative_sequence: true oldest { max_candidate_sequences: 4 } }"
_IN_ORDER = _ITERATIVE.replace("oldest {", "oldest { preserve_ordering: true")
_SAMPLE = 'inputs { key: "INPUT" value { data_type: TYPE_INT32 dims: [ 2 ] zero_data: true } }'
_SAMPLES = (
    f'model_warmup [ {{ name: "three" batch_size: 3 {_SAMPLE} }}, {{ name: "skipped" batch_size: 0 {_SAMPLE} }}, '
    f'{{ name: "twice" batch_size: 1 count: 2 {_SAMPLE} }} ]'
)

_LONG = "default_timeout_microseconds: 60000000"
_OVERRIDE = f"{_LONG} allow_timeout_override: true"
_HASTY = "max_queue_delay_microseconds: 300000 default_queue_policy { default_timeout_microseconds: 1000 }"

#: of which the queue matters, and how sequences are placed
SCHEDULING: tuple[Model, ...] = (
    _queue("levels"),
    Model("no_batcher", "busy", _config(["MS INT32 1"], ["PLACE INT32 1"], batch=1)),
    Model("rounds", "rounds", _config(["ROUNDS INT32 1"], ["NOTES BYTES 1"], batch=4, more=_ITERATIVE)),
    Model("rounds_in_order", "rounds", _config(["ROUNDS INT32 1"], ["NOTES BYTES 1"], batch=4, more=_IN_ORDER)),
    Model("warmed", "warmed", _config(["INPUT INT32 2"], ["SEEN BYTES 1"], batch=4, more=_SAMPLES)),
    _queue("limited", _second(f"max_queue_size: 2 {_OVERRIDE}")),
    _queue("rejecting", _second(f"timeout_action: REJECT {_OVERRIDE}")),
    _queue("delaying", _second(f"timeout_action: DELAY {_OVERRIDE}")),
    _queue("strict", _second(f"timeout_action: REJECT {_LONG}")),
    Model(
        "hasty",
        "echo",
        _config(["INPUT0 FP32 1"], ["OUTPUT0 FP32 1"], batch=8, more=f"dynamic_batching {{ {_HASTY} }}"),
    ),
    _sequence("direct", "UINT64", "direct { }"),
    _sequence("oldest", "UINT64", "oldest { max_candidate_sequences: 4 }"),
    _sequence("direct_1", "UINT64", "direct { }", batch=0),
    _sequence("oldest_1", "UINT64", "oldest { max_candidate_sequences: 1 }"),
    *(
        _sequence(f"corrid_{kind.lower()}", kind, "direct { }")
        for kind in ("UINT64", "INT64", "UINT32", "INT32", "STRING")
    ),
    _sequence("corrid_none", "", "oldest { }"),
)


def _ensemble(
    name: str, inputs: list[str], outputs: list[str], *steps: tuple[str, str, str], batch: int = 0, more: str = ""
) -> Model:
    """``steps``: (model, its inputs, its outputs), tensors as ``"OF_STEP=of_ensemble ..."``."""

    def mapped(kind: str, names: str) -> str:
        pairs = (pair.split("=") for pair in names.split())
        return " ".join(f'{kind} {{ key: "{inner}" value: "{outer}" }}' for inner, outer in pairs)

    entries = ", ".join(
        f'{{ model_name: "{model}" model_version: -1 {mapped("input_map", given)} {mapped("output_map", made)} }}'
        for model, given, made in steps
    )
    lines = [
        'platform: "ensemble"',
        f"max_batch_size: {batch}",
        _tensors("input", *inputs),
        _tensors("output", *outputs),
    ]
    return Model(name, "", "\n".join([*lines, f"ensemble_scheduling {{ step [ {entries} ] }}", more]) + "\n")


#: ensembles and what they are made of
ENSEMBLES: tuple[Model, ...] = (
    Model("caller", "caller", _config(["PLAN BYTES 1"], ["NOTES BYTES 1"])),
    _echo("floats", "FP32", "-1", batch=8),
    _echo("counted_step", "FP32", "-1", batch=8),
    _echo("ints", "INT32", "2", batch=8),
    _echo("int", "INT32", "1", batch=0),
    Model("pair", "pair", _config(["A INT32 2", "B INT32 2"], ["SUM INT32 2", "DIFFERENCE INT32 2"], batch=8)),
    Model("repeat", "repeat", _config(["IN INT32 -1"], ["OUT INT32 1", "INDEX UINT32 1"], more=_DECOUPLED)),
    Model("fail", "fail", _config(["INPUT FP32 2"], ["OUTPUT FP32 2"], batch=4)),
    Model("inspect", "inspect_request", _config(["INPUT FP32 1"], ["REQUEST BYTES 1", "SIZE INT32 1"])),
    _ensemble(
        "chain", ["IN FP32 -1"], ["OUT FP32 -1"], ("floats", "INPUT0=IN", "OUTPUT0=between"),
        ("floats", "INPUT0=between", "OUTPUT0=OUT"), batch=8,
    ),
    _ensemble("counting", ["IN FP32 -1"], ["OUT FP32 -1"], ("counted_step", "INPUT0=IN", "OUTPUT0=OUT"), batch=8),
    _ensemble(
        "branches", ["A INT32 2", "B INT32 2"], ["PLUS INT32 2", "MINUS INT32 2"],
        ("pair", "A=A B=B", "SUM=sum DIFFERENCE=difference"), ("ints", "INPUT0=sum", "OUTPUT0=PLUS"),
        ("ints", "INPUT0=difference", "OUTPUT0=MINUS"), batch=8,
    ),
    _ensemble(
        "each", ["IN INT32 -1"], ["OUT INT32 1"], ("repeat", "IN=IN", "OUT=one"), ("int", "INPUT0=one", "OUTPUT0=OUT")
    ),
    _ensemble("failing", ["IN FP32 2"], ["OUT FP32 2"], ("fail", "INPUT=IN", "OUTPUT=OUT"), batch=4),
    _ensemble(
        "seen", ["IN FP32 1"], ["REQUEST BYTES 1", "SIZE INT32 1"], ("inspect", "INPUT=IN", "REQUEST=REQUEST SIZE=SIZE")
    ),
    _ensemble("summed", ["IN INT32 1"], ["OUT INT32 1"], ("direct", "INPUT=IN", "OUTPUT=OUT"), batch=4),
)  # fmt: skip


_PAIR_IN, _PAIR_OUT = ["A INT32 2", "B INT32 2"], ["SUM INT32 2", "DIFFERENCE INT32 2"]
_PAIR_STEP = ("pair", "A=A B=B", "SUM=SUM DIFFERENCE=DIFFERENCE")
_SECOND_STEP = ("pair", "A=s B=d", "SUM=SUM DIFFERENCE=DIFFERENCE")
_OPTIONAL = ["A FP32 1", "B FP32 1 optional: true", "C FP32 1 optional: true"]


def _pairs(name: str, *steps: tuple[str, str, str], inputs: list[str] = _PAIR_IN, batch: int = 8) -> Model:
    return _ensemble(name, inputs, _PAIR_OUT, *(steps or (_PAIR_STEP,)), batch=batch)


#: further graphs; most can not be loaded
GRAPHS: tuple[Model, ...] = (
    *(model for model in OPEN if model.name in {"pair", "optional", "repeat"}),
    _pairs("twice", ("pair", "A=A B=B", "SUM=s DIFFERENCE=d"), _SECOND_STEP),
    _pairs("nested", ("twice", "A=A B=B", "SUM=s DIFFERENCE=d"), _SECOND_STEP),
    _pairs(
        "fork", ("pair", "A=A B=B", "SUM=s"), ("pair", "A=s B=A", "SUM=SUM"),
        ("pair", "A=s B=B", "DIFFERENCE=DIFFERENCE"),
    ),
    _ensemble("optionals", _OPTIONAL, ["PRESENT BYTES 1"], ("optional", "A=A B=B C=C", "PRESENT=PRESENT"), batch=4),
    _pairs("unknown_step", ("gone", *_PAIR_STEP[1:])),
    _pairs("unknown_input", ("pair", "A=A NO=B", _PAIR_STEP[2])),
    _pairs("unknown_output", ("pair", _PAIR_STEP[1], "NO=SUM DIFFERENCE=DIFFERENCE")),
    _pairs("unmapped", ("pair", "A=A", _PAIR_STEP[2]), inputs=_PAIR_IN[:1]),
    _pairs("larger", batch=16),
    _pairs("other_type", inputs=["A INT64 2", "B INT32 2"]),
    _pairs("other_shape", inputs=["A INT32 3", "B INT32 2"]),
    _pairs("circle", ("circle", *_PAIR_STEP[1:])),
    replace(_pairs("unknown_version"), config=_pairs("unknown_version").config.replace("-1", "7")),
    _ensemble(
        "two_decoupled", ["IN INT32 -1"], ["OUT INT32 1", "INDEX UINT32 1"], ("repeat", "IN=IN", "OUT=OUT"),
        ("repeat", "IN=IN", "INDEX=INDEX"),
    ),
)  # fmt: skip


def _limits(*groups: str) -> str:
    """Of each group ``"NAME count [global], ...; priority"``."""
    entries = []
    for group in groups:
        resources, _, priority = group.partition(";")
        named = []
        for resource in filter(None, resources.split(", ")):
            name, count, *scope = resource.split()
            named.append(f'{{ name: "{name}" count: {count} global: {str(bool(scope)).lower()} }}')
        limiter = f"resources [ {', '.join(named)} ] priority: {priority.strip() or 0}"
        entries.append(f"{{ count: 1 kind: KIND_CPU rate_limiter {{ {limiter} }} }}")
    return f"instance_group [ {', '.join(entries)} ]"


def _limited(name: str, *groups: str) -> Model:
    model = _identity(name)
    return replace(model, config=model.config.replace(_ONE_CPU, _limits(*groups)))


def _turns(name: str, group: str) -> Model:
    config = _config(["MS INT32 1"], ["PLACE INT32 1"], batch=1).replace(_ONE_CPU, _limits(group))
    return Model(name, "turns", config)


#: they share resources, of which there is what one of them needs
LIMITS: tuple[Model, ...] = (
    _turns("holder", "TURN 1"),
    _turns("often", "TURN 1; 2"),
    _turns("seldom", "TURN 1; 3"),
    _turns("free", ""),
    _limited("device", "R 4"),
    _limited("global", "R 1 global"),
    _limited("both", "E 1, E 2 global"),
    _limited("last", "D 3, D 1"),
)
#: of which there is what the flags say
LIMITED: tuple[Model, ...] = (
    _limited("fits", "R 2, G 2 global"),
    _limited("none", "; 3", "R 0, S 0"),
    _limited("r3", "R 3"),
    _limited("g3", "G 3 global"),
    _limited("g4", "G 4 global"),
    _limited("unnamed", "S 1"),
    _limited("groups", "R 1", "R 7"),
    _limited("small_case", "r 1"),
)


def write_repository(folder: Path, models: tuple[Model, ...]) -> Path:
    """The models as a repository below ``folder``, which is returned."""
    for model in models:
        directory = folder / model.name
        directory.mkdir(parents=True)
        if model.config:
            (directory / "config.pbtxt").write_text(model.config)
        for name, text in model.files:
            (directory / name).write_text(text)
        for version in model.versions:
            (directory / version).mkdir()
            if model.program:
                shutil.copyfile(PROGRAMS / f"{model.program}.py", directory / version / "model.py")
    return folder
