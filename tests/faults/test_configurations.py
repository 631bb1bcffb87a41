# SPDX-License-Identifier: Apache-2.0
"""Rows 50 and 52: configurations that are almost right, and file names in them that lead out of the model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.conftest import add_model, identity
from faults.client import check_text, document, http, tensor
from faults.guard import Guard
from faults.mutations import GOOD, mutations
from pyinfer.testing import RunningServer, run_server

FIXED = document(tensor((1, 4), [1, 2, 3, 4]))
LOAD = "/v2/repository/models/mutant/load"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("repository")
    add_model(made, "control", identity("TYPE_FP32", "4"))
    add_model(made, "flat", identity("TYPE_FP32", "-1", batch=0))
    add_model(made, "mutant", GOOD)
    return made


@pytest.fixture(scope="module")
def loading(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch
) -> Iterator[tuple[RunningServer, Guard]]:
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch_module.setenv("TMPDIR", str(scratch))
    flags = ("--model-control-mode=explicit", "--load-model=*", "--strict-readiness=false")
    with run_server(repository, *flags) as server:
        with Guard(server) as guard:
            yield server, guard
        assert server.stop() == 0
    assert list(scratch.iterdir()) == []  # what load requests bring is removed


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def state(server: RunningServer, name: str) -> dict[str, str]:
    entries: list[dict[str, str]] = http(server, "/v2/repository/index", b"").document
    (entry,) = [entry for entry in entries if entry["name"] == name]
    return entry


@pytest.mark.parametrize("part", range(10))
def test_row_50_mutated_configurations(loading: tuple[RunningServer, Guard], repository: Path, part: int) -> None:
    """Each is refused with a reason while the old version answers on, or it is right after all."""
    server, guard = loading
    config, refused = repository / "mutant" / "config.pbtxt", 0
    for text in mutations()[part::10]:
        config.write_text(text, newline="")
        response = http(server, LOAD, b"")
        if response.status == 200:
            config.write_text(GOOD)
            assert http(server, LOAD, b"").status == 200
            continue
        refused += 1
        assert response.status in (400, 500), text
        assert "'mutant'" in response.document["error"]
        entry = state(server, "mutant")
        # what serves is ready, with the reason why it is not what the file says
        assert entry["state"] == "READY"
        check_text(entry["reason"])
        answer = http(server, "/v2/models/mutant/infer", FIXED)
        assert (answer.status, answer.document["outputs"][0]["data"]) == (200, [1, 2, 3, 4]), text
    assert refused > 25
    config.write_text(GOOD)
    assert http(server, LOAD, b"").status == 200
    guard.check()


# Paths

UPWARDS = ("..", "../", "../../", "1/../../", "./../", ".././", "a/b/../../../", "..//", "../" * 200, "1//../")
ENDS = ("", "x", "etc/passwd", "mutant/config.pbtxt", "%2e%2e/x")
ABSOLUTE = ("/", "/etc/passwd", "//etc/passwd", "/dev/zero", "/dev/shm/x", "/proc/self/environ", "/proc/1/root/x")
OUTSIDE = (*(f"{up}/{end}" for up in UPWARDS for end in ENDS), *ABSOLUTE, "a\0b", "\0", "../\0", "x\0/../y")
#: odd, but all in the model's directory
INSIDE = (
    *(
        "...",
        "....//x",
        ".../x",
        "..x/y",
        "x..",
        "%2e%2e/x",
        "..%2fx",
        "..\\x",
        "C:\\x",
        "file:///etc/passwd",
        "~",
        "~root/x",
    ),
    *(
        "$HOME/x",
        "$(id)",
        "`id`",
        "x;touch y",
        "x|y",
        "-rf",
        "*",
        "\u2025/x",
        "\uff0e\uff0e/x",
        "\u2215etc",
        "x" * 4096,
        " ",
        "a/" * 900,
    ),
)


def io(kind: str, name: str, **more: object) -> dict[str, Any]:
    return {kind: [{"name": name, "data_type": "TYPE_FP32", "dims": [4], **more}]}


BASE: dict[str, Any] = {"backend": "identity", "max_batch_size": 8, **io("input", "INPUT0"), **io("output", "OUTPUT0")}
#: field -> the configuration that has ``name`` there
FIELDS = {
    "default_model_filename": lambda name: BASE | {"default_model_filename": name},
    "cc_model_filenames": lambda name: BASE | {"cc_model_filenames": {"7.5": name}},
    "label_filename": lambda name: BASE | io("output", "OUTPUT0", label_filename=name),
    "input_data_file": lambda name: (
        BASE
        | {
            "model_warmup": [
                {
                    "name": "w",
                    "batch_size": 1,
                    "inputs": {"INPUT0": {"data_type": "TYPE_FP32", "input_data_file": name}},
                }
            ]
        }
    ),
    "data_file": lambda name: (
        BASE
        | {"sequence_batching": {"state": [{"input_name": "s", "initial_state": [{"name": "i", "data_file": name}]}]}}
    ),
}


def footprint(*directories: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything below ``directories``."""
    found = {}
    for directory in directories:
        for path in directory.rglob("*"):
            with contextlib.suppress(OSError):
                status = path.lstat()
                found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


def load(server: RunningServer, path: str, parameters: dict[str, str]) -> str:
    """The error of a load over HTTP; "" where it succeeds."""
    response = http(server, path, json.dumps({"parameters": parameters}).encode())
    assert response.status in (200, 400, 500), response
    return "" if response.status == 200 else str(response.document["error"])


@pytest.mark.parametrize("field", FIELDS)
def test_row_52_paths_in_configurations(loading: tuple[RunningServer, Guard], repository: Path, field: str) -> None:
    server, guard = loading
    before = footprint(repository)
    for name in (*OUTSIDE, *INSIDE):
        error = load(server, LOAD, {"config": json.dumps(FIELDS[field](name))})
        refused = f"'{field}' must name a file within the model directory" in error
        assert refused is (name in OUTSIDE), (name, error)
    assert footprint(repository) == before
    assert load(server, LOAD, {}) == ""
    guard.check()
