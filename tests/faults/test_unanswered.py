# SPDX-License-Identifier: Apache-2.0
"""Row 27: a client that sends its requests without waiting, to a model that does not answer."""

from __future__ import annotations

import threading
from pathlib import Path

from contract.conftest import GATE, add_model, gate_config
from contract.http.raw import Raw, post
from faults.client import document, is_live, tensor
from faults.guard import counter
from pyinfer.testing import run_server
from waiting import eventually

#: requests of a connection that are not answered when the server stops reading it; what it has read by then is taken
TAKEN = 1024
READ = 64 << 10


def test_row_27_more_than_a_connection_may_have_unanswered(tmp_path: Path) -> None:
    """Of 5000 requests little more than 1024 are taken, the others wait for the client to be answered; then all are."""
    directory = add_model(tmp_path, "gate", gate_config(), {"model.py": GATE})
    count = 5 * TAKEN
    sent = b"".join(post("/v2/models/gate/infer", document(tensor((1, 1), [n]), id=str(n))) for n in range(count))
    with run_server(tmp_path) as server, Raw(server.http_port, timeout_s=60) as raw:

        def waiting() -> int:
            return counter(server, "nv_inference_pending_request_count", "gate")

        sending = threading.Thread(target=raw.send, args=(sent,))
        sending.start()
        eventually((directory / "began").exists, "never began")
        # a batch at most is being executed
        eventually(lambda: waiting() >= TAKEN - 8, "not as many are taken")
        for _ in range(20):
            assert is_live(server)
            assert waiting() <= TAKEN + READ * count // len(sent)
        (directory / "open").touch()
        for n in range(count):
            answer = raw.receive().document
            assert (answer["id"], answer["outputs"][0]["data"]) == (str(n), [n])
        sending.join()
        assert counter(server, "nv_inference_request_success", "gate") == count
        assert server.stop() == 0
