# SPDX-License-Identifier: Apache-2.0
"""The example of docs/backends.md is an installed package, and works as the page says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.backends.harness import Harness
from pyinfer.backends.base import Backend, InstanceContext, ModelContext
from pyinfer.backends.find import find_backend
from pyinfer.errors import ModelError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG = {
    "max_batch_size": 8,
    "dynamic_batching": {},
    "input": [{"name": "SCORES", "data_type": "TYPE_FP32", "dims": [2]}],
    "output": [{"name": "PROBABILITIES", "data_type": "TYPE_FP32", "dims": [2]}],
}


def blocks(repository_root: Path, language: str) -> list[str]:
    page = (repository_root / "docs" / "backends.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


@pytest.fixture
def softmax(repository_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Backend]]:
    """The example's class, found as pip would have left it."""
    (project,) = blocks(repository_root, "toml")
    described = tomllib.loads(project)
    site = tmp_path / "site"
    info = site / "pyinfer_softmax-1.0.dist-info"
    info.mkdir(parents=True)
    name, version = described["project"]["name"], described["project"]["version"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    ((group, entries),) = described["project"]["entry-points"].items()
    lines = [f"{key} = {value}" for key, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    (site / "pyinfer_softmax.py").write_text(blocks(repository_root, "python")[-1])
    monkeypatch.syspath_prepend(str(site))
    yield find_backend("softmax")
    sys.modules.pop("pyinfer_softmax", None)


def test_example_has_thirty_lines_of_code(repository_root: Path) -> None:
    code = [line for line in blocks(repository_root, "python")[-1].splitlines() if line.strip()]
    assert len(code) <= 30


def test_example_of_pb_utils_runs(repository_root: Path) -> None:
    exec(blocks(repository_root, "python")[0], {})


def test_documented_backend_serves(softmax: type[Backend], tmp_path: Path) -> None:
    directory = tmp_path / "m"
    (directory / "1").mkdir(parents=True)
    model = ModelContext("m", 1, directory, CONFIG)
    with pytest.raises(ModelError, match=r"temperature.txt must hold a number"):
        softmax(model)
    (directory / "1" / "temperature.txt").write_text("0.5")
    harness = Harness(CONFIG, softmax(model).make_instance(InstanceContext("m_0")))
    rows = [[0.0, 0.0], [1.0, 1.0]]
    requests = [
        {"inputs": [{"name": "SCORES", "datatype": "FP32", "shape": [1, 2], "data": row}]}
        for row in (*rows, [9.0, -9.0])
    ]
    answers = harness.infer(*requests)
    harness.close()
    assert [status for status, _ in answers] == [200, 200, 200]
    data = [body["outputs"][0]["data"] for _, body in answers]
    assert data[:2] == [[0.5, 0.5], [0.5, 0.5]] and data[2] == pytest.approx([1.0, 0.0])
