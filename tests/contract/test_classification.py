# SPDX-License-Identifier: Apache-2.0
"""The classification extension over both protocols, as tritonclient asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity
from contract.http.raw import Raw, post
from pyinfer.testing import RunningServer, run_server

CONFIG = identity("TYPE_FP32", "-1")
LABELLED = CONFIG.replace('"OUTPUT0"', '"OUTPUT0" label_filename: "labels.txt"')


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    (add_model(folder, "labelled", LABELLED) / "labels.txt").write_text("cat\ndog\n\n")
    (add_model(folder, "flat", LABELLED.replace("max_batch_size: 8", "")) / "labels.txt").write_text("cat\ndog\n\n")
    add_model(folder, "missing", LABELLED)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    flags = ("--model-control-mode=explicit", "--load-model=labelled", "--load-model=flat")
    with run_server(repository, *flags) as running:
        yield running


@pytest.fixture(params=[tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])
def dialect(request: pytest.FixtureRequest) -> Any:
    return request.param


def classes(server: RunningServer, dialect: Any, model: str, values: object, count: int) -> list[Any]:
    address = server.http if dialect is tritonclient.http else server.grpc
    array = np.array(values, np.float32)
    tensor = dialect.InferInput("INPUT0", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    with dialect.InferenceServerClient(address) as client:
        result = client.infer(model, [tensor], outputs=[dialect.InferRequestedOutput("OUTPUT0", class_count=count)])
    found = result.as_numpy("OUTPUT0")
    return [[text.decode() for text in row] for row in found] if found.ndim == 2 else [text.decode() for text in found]


def test_of_each_row(server: RunningServer, dialect: Any) -> None:
    found = classes(server, dialect, "labelled", [[0.5, 7, -1, 2], [1, 1, 1, 3.3]], 3)
    assert found == [
        ["7.000000:1:dog", "2.000000:3", "0.500000:0:cat"],
        ["3.300000:3", "1.000000:0:cat", "1.000000:1:dog"],
    ]


def test_of_a_model_without_batches(server: RunningServer, dialect: Any) -> None:
    assert classes(server, dialect, "flat", [0.5, 7, -1], 9) == ["7.000000:1:dog", "0.500000:0:cat", "-1.000000:2"]


def ask(server: RunningServer, output: dict[str, Any], **members: object) -> dict[str, Any]:
    body = {
        "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}],
        "outputs": [{"name": "OUTPUT0", "parameters": output}],
        **members,
    }
    with Raw(server.http_port) as raw:
        response = raw.send(post("/v2/models/labelled/infer", json.dumps(body).encode())).receive()
    assert response.status == 200, response.body
    size = int(response.headers.get("inference-header-content-length", len(response.body)))
    (found,) = json.loads(response.body[:size])["outputs"]
    assert (found["name"], found["datatype"], found["shape"]) == ("OUTPUT0", "BYTES", [1, 2])
    return {**found, "binary": response.body[size:]}


def test_as_json_and_as_binary(server: RunningServer) -> None:
    texts = ["2.000000:1:dog", "1.000000:0:cat"]
    assert ask(server, {"classification": 2})["data"] == texts
    # the default of the request is for outputs that it does not list
    assert ask(server, {"classification": 2}, parameters={"binary_data_output": True})["data"] == texts
    binary = ask(server, {"classification": 2, "binary_data": True})
    assert binary["binary"] == b"".join(len(text).to_bytes(4, "little") + text.encode() for text in texts)
    assert binary["parameters"] == {"binary_data_size": len(binary["binary"])}


def test_a_model_whose_labels_are_missing_is_not_loaded(server: RunningServer) -> None:
    text = "failed to read label file 'labels.txt'"
    with (
        tritonclient.http.InferenceServerClient(server.http) as client,
        pytest.raises(InferenceServerException, match=text),
    ):
        client.load_model("missing")


@pytest.mark.parametrize("name", ["../missing/config.pbtxt", "/etc/passwd", "link"])
def test_an_uploaded_configuration_reads_nothing_else(repository: Path, server: RunningServer, name: str) -> None:
    (repository / "labelled" / "link").unlink(missing_ok=True)
    (repository / "labelled" / "link").symlink_to("/etc/passwd")
    with tritonclient.http.InferenceServerClient(server.http) as client:
        config = client.get_model_config("labelled")
        config["output"][0]["label_filename"] = name
        with pytest.raises(InferenceServerException, match=r"label") as caught:
            client.load_model("labelled", config=json.dumps(config))
        assert "/etc" not in caught.value.message().replace(name, "")
        assert client.get_model_metadata("labelled")["versions"] == ["1"]
    assert classes(server, tritonclient.http, "labelled", [[1]], 1) == [["1.000000:0:cat"]]
