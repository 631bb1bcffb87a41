# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf limit`` on small models, its command line, and shares of a limit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pyinfer.config.flags import UsageError
from pyinfer.errors import InvalidArgument, ModelError
from pyinfer.perf.limit import Cell, Limit, OnnxModel, default_ways, measure_limit
from pyinfer.perf.limit_command import limit_table, parse_limit, read_limit, run_limit
from pyinfer.perf.options import PerfOptions


def save(file: Path, datatype: int, shape: list[Any], op: str = "Identity") -> Path:
    tensors = [helper.make_tensor_value_info(name, datatype, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return file


@pytest.fixture
def batching(tmp_path: Path) -> Path:
    return save(tmp_path / "batching.onnx", TensorProto.FLOAT, ["batch", 8])


def test_ways_fill_the_cores_or_one_instance() -> None:
    assert default_ways(1) == [(1, 1)]
    assert default_ways(2) == [(1, 1), (1, 2), (2, 1)]
    assert default_ways(6) == [(1, 1), (1, 2), (1, 4), (1, 6), (3, 2), (6, 1)]


def test_batches_are_those_that_perf_sends(batching: Path) -> None:
    model, options = OnnxModel(batching), PerfOptions(model="m", seed=3)
    assert model.batches
    one, again = model.feeds(4, options)["x"], model.feeds(4, options)["x"]
    assert one.shape == (4, 8)
    assert one.dtype == np.float32
    assert (one == again).all()
    assert len(np.unique(one)) == 8  # one row, over and over


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [
        (TensorProto.FLOAT16, "float16"), (TensorProto.DOUBLE, "float64"), (TensorProto.BOOL, "bool"),
        (TensorProto.INT64, "int64"), (TensorProto.UINT8, "uint8"), (TensorProto.STRING, "object"),
    ],
)  # fmt: skip
def test_data_of_every_type_runs(tmp_path: Path, datatype: int, dtype: str) -> None:
    model = OnnxModel(save(tmp_path / "m.onnx", datatype, ["b", 2]))
    feeds = model.feeds(3, PerfOptions(model="m"))
    assert feeds["x"].dtype == dtype
    (result,) = model.session(1).run(None, feeds)
    assert result.shape == (3, 2)


def test_every_cell_is_measured_in_every_round(batching: Path) -> None:
    cells = [Cell(size, *way) for size in (1, 4) for way in ((1, 1), (2, 1), (1, 2))]
    found, said = Limit(), list[str]()
    options = PerfOptions(model="m")
    measure_limit(OnnxModel(batching), cells, options, found, seconds=0.01, rounds=2, say=said.append)
    assert not found.failures
    assert {cell: len(rates) for cell, rates in found.rates.items()} == dict.fromkeys(cells, 2)
    assert all(min(rates) > 0 for rates in found.rates.values())
    assert found.best == max(cells, key=found.rate)
    assert [row[0] for row in limit_table(found).rows] == ["1", "4"]
    assert sum("*" in cell for row in limit_table(found).rows for cell in row) == 1
    assert len([line for line in said if line.startswith("round")]) == 12


def test_what_a_model_does_not_take_costs_only_its_own_cell(tmp_path: Path) -> None:
    """Its dimensions are open, but it looks for a third row."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3]) for name in ("x", "y"))
    index = helper.make_tensor("index", TensorProto.INT64, [1], [2])
    nodes = [
        helper.make_node("Gather", ["x", "index"], ["row"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Expand", ["row", "shape"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], [index])
    file = tmp_path / "third.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    found, options = Limit(), PerfOptions(model="m")
    cells = [Cell(1, 1, 1), Cell(2, 2, 1), Cell(3, 2, 1)]
    measure_limit(OnnxModel(file), cells, options, found, seconds=0.01, rounds=2)
    assert set(found.rates) == {Cell(3, 2, 1)}
    assert set(found.failures) == {Cell(1, 1, 1), Cell(2, 2, 1)}


def test_what_can_not_be_measured(tmp_path: Path, batching: Path) -> None:
    with pytest.raises(ModelError, match="there is no file"):
        OnnxModel(tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_text("no model")
    with pytest.raises(ModelError, match=r"broken\.onnx can not be opened"):
        OnnxModel(tmp_path / "broken.onnx")
    fixed = OnnxModel(save(tmp_path / "fixed.onnx", TensorProto.FLOAT, [1, 8]))
    assert not fixed.batches
    assert fixed.feeds(1, PerfOptions(model="m"))["x"].shape == (1, 8)
    with pytest.raises(InvalidArgument, match="does not batch"):
        fixed.feeds(2, PerfOptions(model="m"))
    open_shape = OnnxModel(save(tmp_path / "open.onnx", TensorProto.FLOAT, ["b", "n"]))
    with pytest.raises(InvalidArgument, match="--shape=x:DIMS"):
        open_shape.feeds(1, PerfOptions(model="m"))


def test_file_of_a_limit_comes_back(batching: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "limit.json"
    assert run_limit([str(batching), "--batch-sizes=2", "--parallel=1x1,2x1", "-p", "10", f"--json={file}"]) == 0
    document = json.loads(file.read_text())
    assert [(one["batch_size"], one["instances"], one["threads"]) for one in document["cells"]] == [
        (2, 1, 1),
        (2, 2, 1),
    ]
    assert all(len(one["rows_per_s_of_rounds"]) == 3 for one in document["cells"])
    best = max(one["rows_per_s"] for one in document["cells"])
    assert read_limit(str(file)).rows_per_s == document["best"]["rows_per_s"] == best
    assert read_limit(str(file)).note == ""
    document["machine"]["cores"] += 1
    file.write_text(json.dumps(document))
    assert "of another machine" in read_limit(str(file)).note
    assert "rows a second" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"best": {"rows_per_s": "many"}}', '{"best": {"rows_per_s": 0}}'])
def test_a_file_that_is_no_limit(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match="is not what 'pyinfer perf limit --json' writes"):
        read_limit(str(file))
    with pytest.raises(InvalidArgument, match="No such file"):
        read_limit(str(tmp_path / "absent"))


def test_command_line() -> None:
    command = parse_limit(
        ["m.onnx", "--batch-sizes", "8,1,8", "--parallel=2x1,1x2", "-p", "20", "--rounds=2", "--shape", "x:3"]
    )
    assert command
    assert (command.file, command.batch_sizes, command.ways) == (Path("m.onnx"), (8, 1), ((2, 1), (1, 2)))
    assert (command.rounds, command.options.interval_ms, command.options.shapes) == (2, 20, {"x": (3,)})
    assert command.cells(True) == [Cell(8, 2, 1), Cell(8, 1, 2), Cell(1, 2, 1), Cell(1, 1, 2)]
    plain = parse_limit(["m.onnx"])
    assert plain
    assert {cell.batch_size for cell in plain.cells(True)} == {1, 2, 4, 8, 16, 32, 64}
    assert {cell.batch_size for cell in plain.cells(False)} == {1}
    assert parse_limit(["--help"]) is None


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ("", "name a model file"),
        ("-p 10", "name a model file"),
        ("m --batch-sizes 0", "--batch-sizes: '0' is not whole numbers from 1 on"),
        ("m --parallel 2", "--parallel: '2' is not INSTANCESxTHREADS"),
        ("m --parallel 0x1", "is not INSTANCESxTHREADS"),
        ("m --rounds 0", "--rounds must be 1 or more"),
        ("m -u h:1", "there is no server here"),
        ("m -b 4", "there is no server here"),
    ],
)
def test_what_is_refused(argv: str, text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        parse_limit(argv.split())
