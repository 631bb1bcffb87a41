# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf --service-kind openai`` against a small server of that API with delays of its own, in real time."""

from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from contract.perf.test_command import command
from pyinfer.perf.measure import Level, Session
from pyinfer.perf.options import PerfOptions

TOKENS = 6
FIRST_S, NEXT_S = 0.08, 0.03


class Handler(BaseHTTPRequestHandler):
    """Completions of TOKENS tokens: chunks as OpenAI has them, or one body; what was asked and sent is kept."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        with server.lock:
            server.asked.append((self.path, asked))
            server.under_way += 1
            server.most = max(server.most, server.under_way)
        self._answer(server, asked)
        with server.lock:
            server.under_way -= 1

    def _answer(self, server: Any, asked: dict[str, Any]) -> None:
        if asked.get("fail"):
            self._whole(429, {"error": {"message": "too many", "type": "limit"}})
        elif asked.get("stream"):
            self._stream(server, asked)
        else:
            time.sleep(FIRST_S)
            last = asked.get("messages", [{"content": ""}])[-1]["content"]
            said = {"role": "assistant", "content": f"to {last}", "refusal": None}
            choice = {"message": said} if "messages" in asked and not asked.get("silent") else {"text": "x"}
            self._whole(200, {"choices": [choice], "usage": {"completion_tokens": TOKENS}})

    def _whole(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, server: Any, asked: dict[str, Any]) -> None:
        begun = time.monotonic()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chat = "messages" in asked
        if chat:
            self._event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        times = []
        for number in range(TOKENS):
            time.sleep(NEXT_S if number else FIRST_S)
            times.append(time.monotonic() - begun)
            if number == 3 and asked.get("break"):
                self._event({"error": {"message": "out of memory"}})
                break
            self._event({"choices": [{"delta": {"content": "x "}} if chat else {"text": "x "}]})
        if asked.get("stream_options"):
            self._event({"choices": [], "usage": {"completion_tokens": 2 * TOKENS}})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")
        with server.lock:
            server.times.append(times)

    def _event(self, document: dict[str, Any]) -> None:
        self._chunk(f"data: {json.dumps(document)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def served() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.lock, server.asked, server.times = threading.Lock(), [], []
    server.under_way = server.most = 0
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def payloads(folder: Path, *given: dict[str, Any]) -> str:
    path = folder / "payloads.json"
    path.write_text(json.dumps({"data": [{"payload": [one]} for one in given]}))
    return str(path)


CHAT = {"messages": [{"role": "user", "content": "hello"}]}


def run(served: Any, *flags: str, status: int = 0) -> str:
    address = f"127.0.0.1:{served.server_port}"
    argv = command("-m", "llm", "--service-kind", "openai", "-u", address, *flags)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_payloads_are_sent_as_they_are(served: Any, tmp_path: Path) -> None:
    file = payloads(tmp_path, {"prompt": "a", "max_tokens": 7}, {"prompt": "b", "model": "other"})
    run(served, f"--input-data={file}", "--endpoint=v1/completions", "--request-count=4", "--concurrency-range=2")
    a, b = {"model": "llm", "prompt": "a", "max_tokens": 7}, {"model": "other", "prompt": "b"}
    assert (
        sorted(served.asked, key=lambda one: str(one[1]["prompt"]))
        == [("/v1/completions", a)] * 2 + [("/v1/completions", b)] * 2
    )


@pytest.mark.parametrize(("endpoint", "payload"), [("v1/chat/completions", CHAT), ("v1/completions", {"prompt": "a"})])
def test_tokens_are_counted(served: Any, tmp_path: Path, endpoint: str, payload: dict[str, Any]) -> None:
    export = tmp_path / "export.json"
    flags = [f"--input-data={payloads(tmp_path, payload)}", f"--endpoint={endpoint}", "--streaming"]
    shown = run(served, *flags, "--request-count=10", "--concurrency-range=5", f"--profile-export-file={export}")
    assert "tokens/s" in shown
    assert all(path == f"/{endpoint}" and asked["stream"] for path, asked in served.asked)
    document = json.loads(export.read_text())
    assert (document["service_kind"], document["endpoint"]) == ("openai", endpoint)
    (experiment,) = document["experiments"]
    assert [len(one["response_timestamps"]) for one in experiment["requests"]] == [TOKENS] * 10


def test_errors_before_and_within_a_stream(served: Any, tmp_path: Path) -> None:
    file = payloads(tmp_path, CHAT, {**CHAT, "fail": 1}, {**CHAT, "break": 1})
    shown = run(served, f"--input-data={file}", "--streaming", "--request-count=9", status=1)
    assert "3 requests failed: HTTP status 429: too many" in shown
    assert "3 requests failed: out of memory" in shown


def turns(folder: Path, *given: tuple[str, dict[str, Any]]) -> str:
    """A file with one turn for each (name of the session, more of the payload), whose message is its place."""
    entries = []
    for number, (name, more) in enumerate(given):
        payload = {"messages": [{"role": "user", "content": str(number)}], "session_id": name, **more}
        entries.append({"payload": [payload], "delay": [number]})
    path = folder / "sessions.json"
    path.write_text(json.dumps({"data": entries}))
    return str(path)


def said(asked: dict[str, Any]) -> list[str]:
    return [f"{one['role'][0]}:{one['content']}" for one in asked["messages"]]


@pytest.mark.parametrize("streaming", [[], ["--streaming"]])
def test_sessions_go_on_with_what_was_said(served: Any, tmp_path: Path, streaming: list[str]) -> None:
    file = turns(tmp_path, ("a", {}), ("b", {}), ("a", {"max_tokens": 5}), ("c", {}), ("b", {}), ("a", {}), ("d", {}))
    export = tmp_path / "export.json"
    flags = [f"--input-data={file}", "--session-concurrency=2", f"--profile-export-file={export}"]
    run(served, *flags, *streaming)
    answers = ["x " * TOKENS] * 7 if streaming else [f"to {number}" for number in range(7)]
    wanted = []
    for session in ([0, 2, 5], [1, 4], [3], [6]):
        history: list[str] = []
        for number in session:
            history.append(f"u:{number}")
            wanted.append(list(history))
            history.append(f"a:{answers[number]}")
    asked = [one for _, one in served.asked]
    assert sorted(map(said, asked)) == sorted(wanted)
    assert all("session_id" not in one and one["model"] == "llm" for one in asked)
    assert [said(one)[-1] for one in asked if one.get("max_tokens") == 5] == ["u:2"]
    if not streaming:  # what the model said comes back whole
        assert all("refusal" in one["messages"][1] for one in asked if len(one["messages"]) > 1)
    # two at a time: the third session begins when one is over, the fourth when another is
    assert served.most == 2
    order = [said(one)[-1] for one in asked]
    assert set(order[:2]) == {"u:0", "u:1"}
    assert order.index("u:3") > order.index("u:4")
    (experiment,) = json.loads(export.read_text())["experiments"]
    assert experiment["experiment"] == {"mode": "concurrency", "value": 2}
    assert len(experiment["requests"]) == 7


def test_a_session_ends_with_its_first_error(served: Any, tmp_path: Path) -> None:
    file = turns(tmp_path, ("a", {}), ("b", {"silent": 1}), ("a", {"fail": 1}), ("b", {}), ("a", {}), ("c", {}))
    shown = run(served, f"--input-data={file}", "--session-concurrency=1", status=1)
    assert [said(one)[-1] for _, one in served.asked] == ["u:0", "u:2", "u:1", "u:5"]
    assert "1 requests failed: HTTP status 429: too many" in shown
    assert "1 requests failed: the answer has no message for the session to go on" in shown
    assert "2 turns were not sent: their sessions had failed" in shown


def test_what_is_no_session(served: Any, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    turn = {"payload": [CHAT], "session_id": "a"}
    for data, text in (
        ([{"payload": [CHAT]}], "entry 0 has no 'session_id'"),
        ([turn, turn], "entry 0 has no 'delay'"),
        ([{**turn, "delay": -1}], "'delay' is not a number of milliseconds"),
        ([{**turn, "payload": [{"messages": []}]}], "no list 'messages'"),
        ([turn], "has 1 sessions"),
    ):
        file.write_text(json.dumps({"data": data}))
        assert text in run(served, f"--input-data={file}", "--session-concurrency=2", status=1)
    assert served.asked == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tells", [False, True])
def test_times_of_tokens_are_those_of_the_server(served: Any, tmp_path: Path, tells: bool) -> None:
    """The server knows when it sent each token; if it tells how many there were, that counts. Tried up to ten times."""
    payload = {**CHAT, **({"stream_options": {"include_usage": True}} if tells else {})}
    options = PerfOptions(
        model="llm", service_kind="openai", url=f"127.0.0.1:{served.server_port}", streaming=True,
        input_data=(payloads(tmp_path, payload),), request_count=30,
    )  # fmt: skip

    def once() -> bool:
        served.times.clear()
        level = Level("Concurrency", 3)
        Session(options).measure(level)
        assert level.measured is not None
        met = level.measured.window.load.streamed
        tokens = 2 * TOKENS if tells else TOKENS
        assert (met.responses, met.tokens) == (30 * TOKENS, 30 * tokens)
        firsts = [one[0] for one in served.times]
        whole = [(one[-1] - one[0]) / (tokens - 1) for one in served.times]
        noise = max(firsts) - FIRST_S
        return (
            abs(met.first.mean_ns / 1e9 - statistics.fmean(firsts)) < 0.02 * FIRST_S + noise
            and abs(met.token.mean_ns / 1e9 - statistics.fmean(whole)) < 0.02 * NEXT_S + noise / TOKENS
        )

    assert any(once() for _ in range(10))


@pytest.mark.parametrize(
    ("flags", "text", "status"),
    [
        (["--input-data=zero"], "needs --input-data FILE.json", 2),
        (["-i", "grpc", "--input-data=a.json"], "over HTTP", 2),
        (["-b2", "--input-data=a.json"], "no batches", 2),
        (["--input-data=/absent.json"], "No such file", 1),
    ],
)
def test_what_can_not_be_sent(served: Any, flags: list[str], text: str, status: int) -> None:
    assert text in run(served, *flags, status=status)


def test_what_is_no_payload_and_who_is_no_server(served: Any, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    for entry in ({}, {"payload": 7}, {"payload": [{}, {}]}):
        file.write_text(json.dumps({"data": [entry]}))
        assert "entry 0 has no 'payload'" in run(served, f"--input-data={file}", status=1)
    argv = command("-m", "x", "--service-kind=openai", "-u", "127.0.0.1:1", f"--input-data={file}")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "refused" in done.stderr
