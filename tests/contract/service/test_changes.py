# SPDX-License-Identifier: Apache-2.0
"""Models that change while they serve: instances in place, and readiness that the model itself tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contract.service.conftest import IDENTITY, Askers, Bench, Client, told
from waiting import eventually

# Each instance notes its name at its start and its end, and the first one of each group can be held up, all by files
# outside the repository: a file in the directory of the model would be a change of the model.
NOTING = """
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.folder = Path(args["model_repository"]).parents[1]
        self.name = args["model_instance_name"]
        self.note("+")

    def note(self, sign):
        with (self.folder / "notes").open("a") as notes:
            notes.write(f"{sign}{self.name} ")

    def execute(self, requests):
        if self.name.endswith("_0"):
            (self.folder / "began").touch()
            while (self.folder / "hold").exists():
                time.sleep(0.002)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]

    def finalize(self):
        self.note("-")
"""


def config(count: int, kind: str = "KIND_CPU", more: str = "") -> str:
    group = f"instance_group [ {{ count: {count} kind: {kind} }} ]"
    return (
        IDENTITY.replace('"identity"', '"python"').replace("instance_group [ { count: 2 kind: KIND_CPU } ]", group)
        + more
    )


def notes(directory: Path) -> list[str]:
    return (directory / "notes").read_text().split()


def wait_noted(directory: Path, *wanted: str) -> None:
    eventually(lambda: set(wanted) <= set(notes(directory)), f"not all of {wanted} are noted", timeout_s=60)


def test_instances_are_added_beside_a_busy_one(bench: Bench, client: Client) -> None:
    bench.write("m", config(1), model=NOTING)
    directory = bench.repository.parent
    service = bench.start()
    before = told(service, "m")[0]
    (directory / "hold").touch()
    client.send("m", [1.0])
    eventually((directory / "began").exists, "the model never began")
    queued = Client(bench.engine)
    queued.send("m", [2.0])
    bench.write("m", config(2))
    service.load_model("m")
    # the one that waited behind the first is taken by the second, from the same queue
    assert queued.receive()[1]["outputs"][0]["data"] == [2.0]
    queued.close()
    (directory / "hold").unlink()
    assert client.receive()[1]["outputs"][0]["data"] == [1.0]
    after = told(service, "m")[0]
    assert after["inference_count"] == before["inference_count"] + 2, "the version was built anew"
    assert notes(directory) == ["+m_0_0", "+m_0_1"]
    assert service.model_config("m")["instance_group"][0]["count"] == 2


def test_instances_are_removed_after_their_batch(bench: Bench, client: Client) -> None:
    bench.write("m", config(1), model=NOTING)
    directory = bench.repository.parent
    service = bench.start()
    (directory / "hold").touch()
    client.send("m", [1.0])
    eventually((directory / "began").exists, "the model never began")
    bench.write("m", config(1, "KIND_MODEL"))
    service.load_model("m")
    assert notes(directory) == ["+m_0_0", "+m_0_0"], "another kind needs another instance"
    (directory / "hold").unlink()
    assert client.receive()[0] == 200
    wait_noted(directory, "-m_0_0")
    assert client.infer("m", [3.0])[0] == 200


def test_a_version_comes_beside_one_that_stays(bench: Bench, client: Client) -> None:
    bench.write("m", config(1), versions=(1, 2), model=NOTING)
    directory = bench.repository.parent
    service = bench.start()
    bench.write("m", config(1, more=" version_policy { all { } }"), versions=())
    service.load_model("m")
    assert notes(directory) == ["+m_0_0", "+m_0_0"]
    assert [client.infer("m", [1.0], version)[0] for version in ("1", "2")] == [200, 200]
    bench.write("m", config(1, more=" version_policy { specific { versions: [1] } }"), versions=())
    service.load_model("m")
    wait_noted(directory, "-m_0_0")
    assert notes(directory) == ["+m_0_0", "+m_0_0", "-m_0_0"]
    assert client.infer("m", [1.0])[1]["model_version"] == "1"


def test_an_instance_that_fails_to_start_changes_nothing(bench: Bench, client: Client) -> None:
    failing = NOTING.replace(
        '        self.note("+")', '        assert not self.name.endswith("_2"), "no third"\n        self.note("+")'
    )
    bench.write("m", config(1), model=failing)
    directory = bench.repository.parent
    service = bench.start()
    bench.write("m", config(3))
    with pytest.raises(Exception, match="no third"):
        service.load_model("m")
    wait_noted(directory, "-m_0_1")
    assert service.model_config("m")["instance_group"][0]["count"] == 1
    assert client.infer("m", [1.0])[0] == 200
    assert service.ready()


def test_native_instances_change_in_place(bench: Bench, client: Client) -> None:
    bench.write("m")
    service = bench.start()
    for count in (4, 1, 3):
        bench.write("m", IDENTITY.replace("count: 2", f"count: {count}"))
        service.load_model("m")
        assert client.infer("m", [1.0])[0] == 200
    assert told(service, "m")[0]["inference_count"] == 3


def test_instances_come_and_go_while_requests_come(bench: Bench) -> None:
    bench.write("m", config(1), model=NOTING)
    service = bench.start()
    with Askers(bench.engine, 3) as askers:
        for count in [3, 1, 4, 2, 1] * 3:
            bench.write("m", config(count))
            service.load_model("m")
            askers.wait(10)
    assert set(askers.answers) == {200}
    assert told(service, "m")[0]["inference_count"] == len(askers.answers)


def with_hook(answer: str, kind: str = "") -> str:
    """The model above, and an ``is_ready`` that returns the value of ``answer``."""
    hook = f"""
    {kind}def is_ready(self):
        if (self.folder / "raise").exists():
            raise ValueError("not now")
        return {answer}
"""
    return NOTING + hook


@pytest.mark.parametrize("kind", ["", "async "])
def test_a_model_tells_whether_it_is_ready(bench: Bench, client: Client, kind: str) -> None:
    bench.write("m", config(2), model=with_hook('not (self.folder / "tired").exists()', kind))
    directory = bench.repository.parent
    bench.write("other")
    service = bench.start()
    assert service.asks_models()
    assert service.ready()
    assert service.model_ready("m")
    for obstacle in ("tired", "raise"):
        (directory / obstacle).touch()
        assert not service.ready()
        assert not service.model_ready("m")
        assert not service.model_ready("m", "1")
        assert service.model_ready("other")
        assert client.infer("m", [1.0])[0] == 200, "it is asked for its opinion, not stopped"
        (directory / obstacle).unlink()
        assert service.ready()
    service.unload_model("m")
    assert service.ready()
    assert not service.asks_models()


@pytest.mark.parametrize("answer", ["1", "None", "'yes'"])
def test_an_answer_that_is_no_boolean(bench: Bench, answer: str) -> None:
    bench.write("m", config(1), model=with_hook(answer))
    service = bench.start()
    assert not service.model_ready("m")


def test_without_strict_readiness_no_model_is_asked(bench: Bench) -> None:
    bench.write("m", config(1), model=with_hook("False"))
    service = bench.start(strict_readiness=False)
    assert service.ready()
    assert not service.model_ready("m")


def test_a_model_is_asked_while_it_executes(bench: Bench, client: Client) -> None:
    bench.write("m", config(1), model=with_hook("True"))
    directory = bench.repository.parent
    service = bench.start()
    (directory / "hold").touch()
    client.send("m", [1.0])
    eventually((directory / "began").exists, "the model never began")
    assert service.model_ready("m")
    (directory / "hold").unlink()
    assert client.receive()[0] == 200


def test_namespaces(bench: Bench, client: Client, tmp_path: Path) -> None:
    second: Any = Bench(tmp_path / "more") if (tmp_path / "more").mkdir() is None else None
    bench.write("m")
    bench.write("two")
    second.write("two", versions=(2,))
    service = bench.start("none", managing={"repositories": (bench.repository, second.repository), "namespacing": True})
    text = (
        "There are 2 identifiers of model 'two' in global map, model namespace must be provided to resolve ambiguity."
    )
    assert client.infer("two", [1.0]) == (400, {"error": text})
    assert client.infer("two", [1.0], "2") == (400, {"error": text})
    assert not service.model_ready("two")
    assert service.ready()
    for ask in (service.model_metadata, service.model_config):
        with pytest.raises(Exception, match="There are 2 identifiers"):
            ask("two")
    assert client.infer("three", [1.0]) == (404, {"error": "Request for unknown model: 'three' is not found"})
    with pytest.raises(Exception, match="requested model 'two' is not available"):
        service.statistics("two")
    stats = [(entry["name"], entry["version"]) for entry in told(service)]
    assert stats == [("m", "1"), ("two", "1"), ("two", "2")]
    assert client.infer("m", [1.0])[0] == 200
    metrics = service.metrics().decode()
    assert f'nv_inference_count{{model="two",namespace="{second.repository}",version="2"}} 0' in metrics
