# SPDX-License-Identifier: Apache-2.0
"""Row 52: names and files in load requests that are attacks."""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from contract.conftest import add_model, identity
from contract.http.raw import Raw, post
from faults.client import Grpc, check_text, control, document, http, message, tensor
from faults.guard import Guard
from pyinfer.testing import RunningServer, run_server

CONFIG = {
    "backend": "identity",
    "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [4]}],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``models``, and ``scratch`` for whatever the server puts aside."""
    made = tmp_path_factory.mktemp("names")
    (made / "scratch").mkdir()
    for name in ("control", "good"):
        add_model(made / "models", name, identity("TYPE_FP32", "4"))
    add_model(made / "models", "flat", identity("TYPE_FP32", "-1", batch=0))
    return made


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[tuple[RunningServer, Guard]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(root / "scratch"))
        with run_server(root / "models", "--model-control-mode=explicit", "--load-model=*") as server:
            with Guard(server) as guard:
                yield server, guard
            assert server.stop() == 0
    assert list((root / "scratch").iterdir()) == [], "what was put aside was not removed"


@pytest.fixture
def server(served: tuple[RunningServer, Guard]) -> Iterator[RunningServer]:
    running, guard = served
    yield running
    guard.check()


def _attacks() -> list[str]:
    """200 names that lead out of a directory, or pretend to."""
    targets = ["x", "etc/passwd", "models/good/1/model.onnx", "models/good/config.pbtxt", "scratch/x"]
    ups = [
        "../",
        "../../",
        "../../../",
        "1/../../",
        "1/../",
        "a/b/../../../",
        "./../",
        "1/./../../",
        ".././../",
        "..//",
    ]
    names = [up + target for up in ups for target in targets]
    names += [name.replace("/", "\\") for name in names[:40]]
    names += ["/" + target for target in targets] + ["//" + target for target in targets]
    names += [f"/proc/self/cwd/{target}" for target in targets] + [f"1/../{up}x" for up in ups]
    names += [
        "..",
        ".",
        "",
        "/",
        "//",
        "./",
        "../",
        "1/..",
        "1/../",
        "1/../..",
        "a/..",
        "..\\..",
        "C:\\x",
        "\\\\host\\x",
    ]
    names += [f"1/{sign}x" for sign in "\0\n\r\t\x1b\x7f\x85\u2028\u202e\ud800"]
    names += [f"..{sign}/x" for sign in "\0\n\x1b"] + [f"1/x{sign}/../../y" for sign in "\0\n"]
    names += [
        "1/" + "n" * 256,
        "n" * 256 + "/x",
        "1/" + "n" * 4096,
        "1/" + "n" * 65536,
        "d/" * 12 + "x",
        "d/" * 5000 + "x",
    ]
    names += ["1/" + "\u00e9" * 128, "../" * 1000 + "x", "1/" + "../" * 1000 + "x"]
    names += [
        f"{up}{target}" for up in ("1/1/1/../../../../", "....//../", "%2e%2e/../", "..;/../") for target in targets
    ]
    names += [f"1/good/../../{number}/x" for number in range(200)]
    return list(dict.fromkeys(names))[:200]


ATTACKS = _attacks()


def tree(root: Path) -> set[tuple[str, int]]:
    """What is below ``root``, however deep, and beside it; sizes tell of changes."""
    paths = [*root.rglob("*"), *root.parent.iterdir()]
    return {(str(path), path.lstat().st_size if path.is_file() else 0) for path in paths}


def test_row_52_there_are_two_hundred() -> None:
    assert len(set(ATTACKS)) == len(ATTACKS) == 200


def test_row_52_files_of_a_load(server: RunningServer, root: Path) -> None:
    before = tree(root)
    content = base64.b64encode(b"planted").decode()
    with contextlib.closing(Grpc(server)) as rpc:
        for name in ATTACKS:
            parameters = {"config": json.dumps(CONFIG), f"file:{name}": content, "file:1/x": content}
            path = "/v2/repository/models/planted/load"
            body = json.dumps({"parameters": parameters}).encode()
            answer = http(server, path, body)
            assert answer.status == 400, name
            if "\ud800" in name:
                continue  # no text that protobuf could carry
            request = pb.RepositoryModelLoadRequest(model_name="planted")
            request.parameters["config"].string_param = json.dumps(CONFIG)
            request.parameters[f"file:{name}"].bytes_param = b"planted"
            request.parameters["file:1/x"].bytes_param = b"planted"
            rpc.refused(request.SerializeToString(), "INVALID_ARGUMENT", name="RepositoryModelLoad")
    assert tree(root) == before
    assert not [entry for entry in http(server, "/v2/repository/index", b"").document if entry["name"] == "planted"]


def test_row_52_names_of_models(server: RunningServer, root: Path) -> None:
    before = tree(root)
    with contextlib.closing(Grpc(server)) as rpc:
        for name in ATTACKS:
            if "\ud800" in name:
                continue
            for action in ("Load", "Unload"):
                kind = getattr(pb, f"RepositoryModel{action}Request")
                request = kind(model_name=name).SerializeToString()
                rpc.refused(request, "INVALID_ARGUMENT", name=f"RepositoryModel{action}")
                with Raw(server.http_port, timeout_s=60) as raw:
                    quoted = urllib.parse.quote(name, safe="")[:60_000]
                    path = f"/v2/repository/models/{quoted}/{action.lower()}"
                    answer = raw.send(post(path, b"{}")).receive()
                assert answer.status in (400, 404, 414), (name, answer)
                check_text(answer.document["error"])
    assert tree(root) == before


@pytest.mark.parametrize("field", ["default_model_filename", "name", "backend", "platform"])
def test_row_52_fields_of_a_configuration(server: RunningServer, root: Path, field: str) -> None:
    before = tree(root)
    for name in ATTACKS[:60]:
        config = json.dumps({**CONFIG, "backend": "python", field: name})
        assert control(server, "good", "load", {"config": config}) in (400, 500), name
    assert tree(root) == before
    assert http(server, "/v2/models/good/infer", document(tensor((1, 4), [1, 2, 3, 4]))).status == 200


def test_row_52_links_in_a_repository_are_the_operators(server: RunningServer, root: Path) -> None:
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "secret").write_text("secret")
    (root / "models" / "linked").mkdir()
    (root / "models" / "linked" / "1").symlink_to(root / "elsewhere")
    (root / "models" / "linked" / "config.pbtxt").write_text(identity("TYPE_FP32", "4"))
    assert control(server, "linked", "load") == 200
    # a client's files never meet them: they get a directory of their own
    content = base64.b64encode(b"planted").decode()
    parameters = {"config": json.dumps(CONFIG), "file:1/secret": content}
    assert control(server, "linked", "load", parameters) == 200
    assert (root / "elsewhere" / "secret").read_text() == "secret"
    assert control(server, "linked", "unload") == 200


@pytest.mark.parametrize(
    "content", ["aGk", "aGk==", "a", "!!!!", "aGk=\n", " aGk=", "aGk=aGk=", "äöü", 5, None, True, [], {}]
)
def test_row_52_contents_that_are_not_base64(server: RunningServer, content: object) -> None:
    assert control(server, "planted", "load", {"config": json.dumps(CONFIG), "file:1/x": content}) == 400


def test_row_52_many_files(server: RunningServer, root: Path) -> None:
    """Two thousand files in one request are a model directory like any other."""
    parameters = {"config": json.dumps(CONFIG)} | {f"file:1/{number}": "aGk=" for number in range(2000)}
    assert control(server, "many", "load", parameters) == 200
    assert sum(1 for _ in (root / "scratch").rglob("1/*")) == 2000
    assert control(server, "many", "unload") == 200


def test_row_52_a_load_over_grpc_takes_bytes(server: RunningServer) -> None:
    with contextlib.closing(Grpc(server)) as rpc:
        request = pb.RepositoryModelLoadRequest(model_name="by-grpc")
        request.parameters["config"].string_param = json.dumps(CONFIG)
        request.parameters["file:1/x"].bytes_param = bytes(range(256))
        rpc.call(request.SerializeToString(), "RepositoryModelLoad")
        infer = message("by-grpc", ("INPUT0", "FP32", (4,)), raw=[bytes(16)])
        assert rpc.infer(infer).raw_output_contents[0] == bytes(16)
        rpc.call(pb.RepositoryModelUnloadRequest(model_name="by-grpc").SerializeToString(), "RepositoryModelUnload")
        with pytest.raises(grpc.RpcError):
            rpc.infer(infer)
