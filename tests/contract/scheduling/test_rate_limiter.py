# SPDX-License-Identifier: Apache-2.0
"""The rate limiter over both protocols: models that share resources, who is next, and limits that can not be met."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from contract.calls.callers import passing_on
from contract.conftest import add_model
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

MODEL = '''
import os
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Notes in a file of all models when it begins and when it is done; with input 0 it waits for the file "open"."""

    def initialize(self, args):
        self.name = args["model_name"]
        self.folder = Path(args["model_repository"]).parent
        self.log = os.open(self.folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def execute(self, requests):
        values = [request.inputs()[0].as_numpy() for request in requests]
        os.write(self.log, f"+{self.name}\\n".encode())
        while any(value[0, 0] == 0 for value in values) and not (self.folder / "open").exists():
            time.sleep(0.005)
        os.write(self.log, f"-{self.name}\\n".encode())
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", value)]) for value in values]
'''
CONFIG = """
backend: "{backend}" max_batch_size: 1
input [ {{ name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ count: {count} kind: KIND_CPU rate_limiter {{ {limits} }} }} ]
{more}
"""
ON = "--rate-limit=execution_count"
EXPLICIT = "--model-control-mode=explicit"


def needs(name: str, count: int = 1, *, everywhere: bool = False) -> str:
    return f'resources [ {{ name: "{name}" global: {str(everywhere).lower()} count: {count} }} ]'


@dataclass
class House:
    """Models, the server that has them, and clients of one protocol."""

    repository: Path
    protocol: str
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(32))

    def add(self, name: str, limits: str, *, count: int = 1, backend: str = "python", more: str = "") -> None:
        config = CONFIG.format(backend=backend, count=count, limits=limits, more=more)
        add_model(self.repository, name, config, {"model.py": MODEL} if backend == "python" else {})

    def client(self, server: RunningServer) -> Any:
        module: Any = http_client if self.protocol == "http" else grpc_client
        return module.InferenceServerClient(getattr(server, self.protocol))

    def infer(self, server: RunningServer, model: str, value: int, **sequence: Any) -> int:
        module: Any = http_client if self.protocol == "http" else grpc_client
        with self.client(server) as client:
            tensor = module.InferInput("INPUT0", [1, 1], "INT32")
            tensor.set_data_from_numpy(np.array([[value]], np.int32))
            return int(client.infer(model, [tensor], **sequence).as_numpy("OUTPUT0")[0, 0])

    def send(self, server: RunningServer, model: str, value: int, **sequence: Any) -> Future[int]:
        return self.pool.submit(self.infer, server, model, value, **sequence)

    def log(self) -> list[str]:
        return (self.repository / "log").read_text().split()

    def wait_for(self, server: RunningServer, line: str) -> None:
        eventually(lambda: line in self.log(), f"{line} never came: {self.log()}")

    def wait_queued(self, server: RunningServer, model: str, count: int) -> None:
        needle = f'nv_inference_pending_request_count{{model="{model}",version="1"}} {count}\n'

        def are_queued() -> bool:
            with urllib.request.urlopen(f"http://{server.metrics}/metrics") as page:
                return needle in page.read().decode()

        eventually(are_queued, f"{count} requests never waited for {model}")


@pytest.fixture(params=["http", "grpc"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path, str(request.param))
    yield made
    (tmp_path / "open").touch()
    made.pool.shutdown()


def overlaps(log: Sequence[str]) -> int:
    """The most executions at a time."""
    running, most = 0, 0
    for line in log:
        running += 1 if line[0] == "+" else -1
        most = max(most, running)
    return most


def test_no_more_execute_than_there_is(house: House) -> None:
    for name in ("a", "b"):
        house.add(name, needs("R"), count=2)
    with run_server(house.repository, ON) as server:
        asked = [house.send(server, "ab"[number % 2], number) for number in range(1, 41)]
        assert [answer.result(timeout=60) for answer in asked] == list(range(1, 41))
    assert len(house.log()) == 80
    assert overlaps(house.log()) == 1


def test_off_is_the_default(house: House) -> None:
    for name in ("a", "b"):
        house.add(name, needs("R"))
    with run_server(house.repository, "--rate-limit-resource=R:1") as server:
        asked = [house.send(server, name, 0) for name in "ab"]
        for name in "ab":
            house.wait_for(server, f"+{name}")
        (house.repository / "open").touch()
        assert [answer.result(timeout=60) for answer in asked] == [0, 0]
        assert server.log.count("--rate-limit-resource has no effect without --rate-limit=execution_count") == 1


def test_the_operator_says_how_much_there_is(house: House) -> None:
    for name in "abcd":
        house.add(name, needs("Slots" if name in "ac" else "sLOTS", everywhere=True))
    with run_server(house.repository, ON, "--rate-limit-resource=SLOTS:2") as server:
        asked = [house.send(server, name, 0) for name in "abcd"]
        eventually(lambda: len(house.log()) == 2, "two have what they need")
        (house.repository / "open").touch()
        assert [answer.result(timeout=60) for answer in asked] == [0, 0, 0, 0]
    assert overlaps(house.log()) == 2


def test_the_least_executed_times_priority_is_next(house: House) -> None:
    house.add("holder", needs("R"))
    house.add("often", f"{needs('R')} priority: 1")
    house.add("seldom", f"{needs('R')} priority: 4")
    with run_server(house.repository, ON) as server:
        assert house.infer(server, "often", 7) == 7
        holding = house.send(server, "holder", 0)
        house.wait_for(server, "+holder")
        asked = [house.send(server, name, 1) for name in ("often", "seldom") for _ in range(8)]
        for name in ("often", "seldom"):
            house.wait_queued(server, name, 8)
        (house.repository / "open").touch()
        for answer in (holding, *asked):
            answer.result(timeout=60)
    begun = [line[1:] for line in house.log() if line[0] == "+"]
    assert begun[:2] == ["often", "holder"]
    # executions (with two for being loaded) times priority: 3 8, 4 8, ..., 8 8 (who waits for longer), 8 12, ...
    assert begun[2:12] == [*["often"] * 5, "seldom", *["often"] * 3, "seldom"]


def test_whatever_executes_waits(house: House) -> None:
    """Native instances, sequences and the steps of ensembles; a model that needs nothing does not."""
    house.add("holder", needs("R"))
    house.add("free", "priority: 2")
    house.add("native", needs("R"), backend="identity")
    house.add("stateful", needs("R"), more="sequence_batching { }")
    steps = 'step { model_name: "native" model_version: -1 input_map { key: "INPUT0" value: "INPUT0" } '
    steps += 'output_map { key: "OUTPUT0" value: "OUTPUT0" } }'
    tensors = 'input { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] } '
    tensors += 'output { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] }'
    graph = f'platform: "ensemble" max_batch_size: 1 {tensors} ensemble_scheduling {{ {steps} }}'
    add_model(house.repository, "graph", graph, {})
    with run_server(house.repository, ON) as server:
        holding = house.send(server, "holder", 0)
        house.wait_for(server, "+holder")
        waiting = [house.send(server, "native", 1), house.send(server, "graph", 2)]
        house.wait_queued(server, "native", 2)
        waiting.append(house.send(server, "stateful", 3, sequence_id=1, sequence_start=True, sequence_end=True))
        house.wait_queued(server, "stateful", 1)
        assert house.infer(server, "free", 5) == 5
        assert not any(answer.done() for answer in (holding, *waiting))
        (house.repository / "open").touch()
        assert [answer.result(timeout=60) for answer in waiting] == [1, 2, 3]


def test_limits_that_can_not_be_met_are_said_at_load(house: House) -> None:
    house.add("small", needs("R1", 4))
    house.add("large", needs("R1", 10))
    house.add("other", needs("R2", 1))
    house.add("everywhere", needs("r1", 1, everywhere=True))
    with run_server(house.repository, ON, EXPLICIT, "--rate-limit-resource=R1:5") as server:
        with house.client(server) as client:
            client.load_model("small")
            for name, resource, total, need in (("large", "R1", 5, 10), ("other", "R2", 0, 1)):
                text = (
                    f'Resource count for "{resource}" is limited to {total} which will prevent scheduling of one or '
                    f"more model instances, the minimum required count is {need}"
                )
                with pytest.raises(Exception, match=f"load failed for model '{name}'.*{text}"):
                    client.load_model(name)
            clash = 'Resource "r1" is present as both global and device-specific resource'
            with pytest.raises(Exception, match=clash):
                client.load_model("everywhere")
        assert house.infer(server, "small", 3) == 3
        with house.client(server) as client:
            client.unload_model("small")
            # it is gone when all it has begun is done
            eventually(lambda: not client.is_model_ready("small"), "small is not unloaded")
            eventually(lambda: loads(client, "everywhere"), "nobody needs R1 for each device any more")
        assert house.infer(server, "everywhere", 4) == 4


def loads(client: Any, name: str) -> bool:
    try:
        client.load_model(name)
    except Exception:
        return False
    return True


def update_instances(house: House, server: RunningServer, name: str, groups: list[dict[str, Any]]) -> None:
    """Change nothing but the instances of a loaded model: the ones that stay serve on."""
    with house.client(server) as client:
        if house.protocol == "http":
            config = client.get_model_config(name)
        else:
            config = client.get_model_config(name, as_json=True)["config"]
        config["instance_group"] = [{"kind": "KIND_CPU", **group} for group in groups]
        client.load_model(name, config=json.dumps(config))


def limits(count: int) -> dict[str, Any]:
    return {"rate_limiter": {"resources": [{"name": "R", "count": count}]}}


@pytest.mark.parametrize("backend", ["identity", "python"])
def test_what_removed_instances_needed_is_not_there_any_more(house: House, backend: str) -> None:
    """There is as much as the instance that needs most of it needs, of those that are left after an update in place."""
    house.add("holder", needs("R", 2))
    house.add("changes", needs("R", 1), backend=backend)
    with run_server(house.repository, ON, EXPLICIT, "--load-model=*") as server:
        update_instances(house, server, "changes", [{"count": 1, **limits(1)}, {"count": 1, **limits(3)}])
        holding = house.send(server, "holder", 0)
        house.wait_for(server, "+holder")
        assert house.infer(server, "changes", 1) == 1  # of three the holder has two
        update_instances(house, server, "changes", [{"count": 1, **limits(1)}])
        waiting = house.send(server, "changes", 2)
        house.wait_queued(server, "changes", 1)
        assert not waiting.done()
        (house.repository / "open").touch()
        assert (holding.result(timeout=60), waiting.result(timeout=60)) == (0, 2)
        # the one that is left serves on
        assert house.infer(server, "changes", 3) == 3


def test_a_call_without_a_hope_is_refused_also_after_instances_have_gone(house: House) -> None:
    """The caller holds all there is. Whether one that is left of the callee could execute is what counts."""
    config = CONFIG.format(backend="python", count=1, limits=needs("R"), more="")
    add_model(house.repository, "caller", config, {"model.py": passing_on("callee")})
    house.add("callee", needs("R"), backend="identity", count=2)
    with run_server(house.repository, ON, EXPLICIT, "--load-model=*") as server:
        for _ in range(2):
            with pytest.raises(Exception, match="would wait for ever"):
                house.send(server, "caller", 7).result(timeout=60)
            update_instances(house, server, "callee", [{"count": 1, **limits(1)}])
        update_instances(house, server, "callee", [{"count": 1}])
        assert house.send(server, "caller", 7).result(timeout=60) == 7
        assert house.infer(server, "callee", 8) == 8


def test_limits_change_while_the_model_serves(house: House) -> None:
    house.add("holder", needs("R"))
    house.add("native", needs("R"), backend="identity")
    house.add("python", needs("R"))
    with run_server(house.repository, ON, EXPLICIT, "--load-model=*") as server:
        holding = house.send(server, "holder", 0)
        house.wait_for(server, "+holder")
        waiting = []
        for name in ("native", "python"):
            waiting.append(house.send(server, name, 1))
            house.wait_queued(server, name, 1)
        for name in ("native", "python"):
            update_instances(house, server, name, [{"count": 1}])
            assert house.infer(server, name, 2) == 2
        (house.repository / "open").touch()
        assert [answer.result(timeout=60) for answer in (holding, *waiting)] == [0, 1, 1]
