# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf`` against a model with sequences, which writes down what it is asked."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.conftest import add_model, identity
from contract.perf.test_command import PROTOCOLS, perf
from pyinfer.testing import RunningServer, run_server

NOTES = '''
from pathlib import Path

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Writes a line for each request: id, whether it starts and ends its sequence, input."""

    def initialize(self, args):
        self.notes = (Path(args["model_repository"]) / "notes").open("a", buffering=1)

    def execute(self, requests):
        answers = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            start = bool(request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START)
            end = bool(request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END)
            self.notes.write(f"{request.correlation_id()} {int(start)} {int(end)} {int(value[0][0])}\\n")
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", value)]))
        return answers
'''
CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
sequence_batching { max_sequence_idle_microseconds: 60000000 oldest { max_candidate_sequences: 8 } }
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Path]]:
    """``notes``, ``pair`` (FP32 [2]) and ``text`` (BYTES [-1]); and the notes."""
    repository = tmp_path_factory.mktemp("sequences")
    add_model(repository, "notes", CONFIG, {"model.py": NOTES})
    add_model(repository, "pair", identity("TYPE_FP32", "2"))
    add_model(repository, "text", identity("TYPE_STRING", "-1"))
    with run_server(repository) as server:
        yield server, repository / "notes" / "notes"


@pytest.fixture
def served(running: tuple[RunningServer, Path]) -> tuple[RunningServer, Path]:
    """With a new page for notes."""
    server, notes = running
    notes.write_text("")  # the model appends
    return server, notes


def sequences(notes: Path) -> dict[int, list[int]]:
    """The inputs of each sequence; every one starts with its first request and ends with its last."""
    lines = [tuple(map(int, line.split())) for line in notes.read_text().splitlines()]
    found: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for number, *rest in lines:
        found[number].append(tuple(rest))
    for number, steps in found.items():
        assert [start for start, _, _ in steps] == [1] + [0] * (len(steps) - 1), number
        assert [end for _, end, _ in steps] == [0] * (len(steps) - 1) + [1], number
    return {number: [value for _, _, value in steps] for number, steps in found.items()}


def data(folder: Path, *streams: list[int]) -> str:
    path = folder / "data.json"
    path.write_text(json.dumps({"data": [[{"INPUT0": [value]} for value in stream] for stream in streams]}))
    return f"--input-data={path}"


FORMS = [("http", []), ("http", ["--input-tensor-format=json"]), ("grpc", []), ("grpc", ["--streaming"])]


@pytest.mark.parametrize(("protocol", "form"), FORMS)
def test_sequences_have_the_steps_of_their_data(
    served: tuple[RunningServer, Path], tmp_path: Path, protocol: str, form: list[str]
) -> None:
    server, notes = served
    export = tmp_path / "export.json"
    flags = [data(tmp_path, [1, 2, 3], [7], [4, 5]), "--request-count=120", "--concurrency-range=3"]
    perf(server, protocol, "notes", *form, *flags, "--profile-export-file", str(export))
    met = sequences(notes)
    assert 120 <= sum(map(len, met.values())) <= 123  # those that were open are ended
    lists = [(1, 2, 3), (7,), (4, 5)]
    cut = [values for values in met.values() if tuple(values) not in lists]
    assert {tuple(values) for values in met.values()} >= set(lists)
    assert len(cut) <= 3
    assert all(values in ([1], [1, 2], [4]) for values in cut)
    (experiment,) = json.loads(export.read_text())["experiments"]
    assert {one["sequence_id"] for one in experiment["requests"]} == set(met)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("threads", [1, 2])
def test_lengths_and_ids(served: tuple[RunningServer, Path], protocol: str, threads: int) -> None:
    server, notes = served
    flags = ["--sequence-length=10", "--sequence-length-variation=30", "--sequence-id-range=50:2000"]
    perf(server, protocol, "notes", *flags, "--request-count=400", "--concurrency-range=4", f"--threads={threads}")
    met = sequences(notes)
    lengths = [len(values) for number, values in sorted(met.items())]
    assert all(50 <= number < 2000 for number in met)
    assert max(lengths) <= 13
    assert sum(1 for length in lengths if length < 7) <= 4  # ended before their time
    assert len(set(lengths)) > 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("serial", [[], ["--serial-sequences"]])
def test_at_a_rate(served: tuple[RunningServer, Path], protocol: str, serial: list[str]) -> None:
    server, notes = served
    flags = ["--request-rate-range=400", "--num-of-sequences=5", "--sequence-length=6", "--request-count=200"]
    perf(server, protocol, "notes", *flags, *serial, "--sequence-length-variation=0")
    met = sequences(notes)
    assert 200 <= sum(map(len, met.values())) <= 205
    assert sum(1 for values in met.values() if len(values) == 6) >= 30


def test_what_sequences_do_not_allow(served: tuple[RunningServer, Path], tmp_path: Path) -> None:
    server, _ = served
    for protocol, flags, text in [
        ("grpc", ["-b2"], "have a batch size of 1"),
        ("grpc", ["--sequence-id-range=1:4", "--concurrency-range=4"], "has 3 ids for 4 sequences at a time"),
        ("http", ["--streaming"], "generate_stream does not carry"),
        ("http", [data(tmp_path, [1], [])], "a list in 'data' that is empty"),
    ]:
        assert text in perf(server, protocol, "notes", *flags, status=1)


@pytest.mark.parametrize(("protocol", "form"), [("http", []), ("grpc", []), ("grpc", ["--streaming"])])
def test_answers_are_validated(
    served: tuple[RunningServer, Path], tmp_path: Path, protocol: str, form: list[str]
) -> None:
    server, _ = served
    good, bad, text = (tmp_path / name for name in ("good.json", "bad.json", "text.json"))
    entries = [{"INPUT0": [1.5, 2]}, {"INPUT0": [3, 4]}]
    outputs = [{"OUTPUT0": [1.5, 2]}, {"OUTPUT0": [3, 4]}]
    good.write_text(json.dumps({"data": entries, "validation_data": outputs}))
    bad.write_text(json.dumps({"data": entries, "validation_data": [outputs[0], outputs[0]]}))
    words = {"content": ["a", "bc"], "shape": [2]}
    text.write_text(json.dumps({"data": [{"INPUT0": words}], "validation_data": [{"OUTPUT0": ["a", "bc"]}]}))
    count = "--request-count=40"
    perf(server, protocol, "pair", *form, count, f"--input-data={good}", "-b2")
    perf(server, protocol, "text", *form, count, f"--input-data={text}")
    shown = perf(server, protocol, "pair", *form, count, f"--input-data={bad}", status=1)
    assert "20 requests failed: output 'OUTPUT0' differs from validation_data" in shown
    bad.write_text(json.dumps({"data": entries, "validation_data": [{"OUTPUT": [1, 2]}, {}]}))
    assert "which is no output" in perf(server, protocol, "pair", *form, f"--input-data={bad}", status=1)
