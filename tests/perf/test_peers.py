# SPDX-License-Identifier: Apache-2.0
"""Optional peers: asked in the form that each has, answers read in either; one that is not there says how to get it."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from perf import peer_servers
from perf.bodies import fp32_rows
from perf.peer_servers import PEERS, find_peer, install_peer, peer_body, read_answer, start_peer
from perf.peers import PeerError
from perf.procs import Child
from perf.servers import Server

ROWS = fp32_rows(4)


def test_each_is_asked_in_its_own_form() -> None:
    for name in (*PEERS, "pyinfer"):
        body = peer_body(name, "mlp", ROWS, input_name="x", output="y")
        said = json.loads(body.content)
        sent = said["x"] if "x" in said else [said["inputs"][0]["data"]]
        assert np.array_equal(np.array(sent, np.float32), ROWS), name
        assert body.url_path == (PEERS[name].path if name in PEERS else "/v2/models/mlp/infer")


@pytest.mark.parametrize(
    "answer", [{"y": [[1.5, 2.5]]}, {"outputs": [{"name": "y", "shape": [1, 2], "data": [1.5, 2.5]}]}]
)
def test_answers_are_read(answer: dict[str, object]) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = json.dumps(answer).encode()
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server, Child(["sleep", "60"]) as child:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        address = f"127.0.0.1:{server.server_port}"
        peer = Server("fastapi", child, address, address, 0.0, has_statistics=False)
        rows = read_answer(peer, peer_body("fastapi", "mlp", ROWS, input_name="x", output="y"))
        thread.join()
    assert rows.tolist() == [[1.5, 2.5]]


def test_one_that_is_not_installed_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_servers, "_ROOT", tmp_path)
    (tmp_path / ".venv-fastapi" / "bin").mkdir(parents=True)
    (tmp_path / ".venv-fastapi" / "bin" / "python").touch()  # an installation that was broken off
    assert find_peer("fastapi") is None
    with pytest.raises(PeerError, match="python -m perf install-peers fastapi"):
        start_peer("fastapi", tmp_path / "model.onnx")
    with pytest.raises(PeerError, match="no peer 'nobody'; there are: fastapi, litserve, mlserver"):
        install_peer("nobody")
