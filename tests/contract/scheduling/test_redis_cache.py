# SPDX-License-Identifier: Apache-2.0
"""The response cache in a real Redis: shared by servers, and of no harm to a request whatever becomes of it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from contract.conftest import add_model
from contract.scheduling.test_response_cache import CACHED, CONFIG, MODEL, ask
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

PROGRAM = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="NOT TESTED: redis-server is missing: apt-get install redis-server"
)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


class Redis:
    """A Redis server that keeps nothing on disk."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.port, self._folder, self._flags = free_port(), folder, flags
        self.start()

    def start(self) -> None:
        command = [PROGRAM or "", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([*command, *self._flags], cwd=self._folder, stdout=subprocess.DEVNULL)
        eventually(self._answers, "redis-server does not start")

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def client(self) -> Any:
        return redis.Redis(port=self.port, socket_timeout=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server(folder: Path, *flags: str) -> Iterator[Redis]:
    server = Redis(folder, *flags)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Redis]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    add_model(folder, "cached", CONFIG.format(more=CACHED), {"model.py": MODEL})
    return folder


#: a busy machine may take longer for an answer than a request waits for the cache by default: it would be a miss
PATIENT = {"wait_timeout": "60000", "socket_timeout": "60000", "connect_timeout": "60000"}


def flags(port: int, *more: str) -> list[str]:
    settings = {"host": "127.0.0.1", "port": str(port), **PATIENT, **dict(one.split("=", 1) for one in more)}
    return [f"--cache-config=redis,{name}={value}" for name, value in settings.items()]


def connect(server: RunningServer, protocol: str = "grpc") -> Any:
    module: Any = http_client if protocol == "http" else grpc_client
    client = module.InferenceServerClient(getattr(server, protocol))
    client.module = module
    return client


def counts(server: RunningServer) -> tuple[int, int]:
    """Hits and misses, as the metrics have them."""
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    pattern = r'^nv_cache_num_(hits|misses)_per_model\{model="cached",version="1"\} (\d+)'
    shown = dict(re.findall(pattern, page, re.MULTILINE))
    return int(shown["hits"]), int(shown["misses"])


def kept(store: Redis, number: int) -> list[bytes]:
    """The keys, once there are ``number``: what is kept is written after the answer."""
    with store.client() as client:
        eventually(lambda: client.dbsize() >= number, "the answer is not kept")
        return sorted(client.keys("*"))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_servers_share_answers_and_a_changed_model_has_its_own(store: Redis, repository: Path, protocol: str) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(run_server(repository, *flags(store.port))) for _ in range(2)]
        clients = [connect(server, protocol) for server in servers]
        first = ask(clients[0], "cached", [[1, 2]])
        assert first == {"SUM": [3], "TIMES": [1]}
        kept(store, 1)
        assert ask(clients[1], "cached", [[1, 2]]) == first
        assert ask(clients[1], "cached", [[1, 2]], request_id="another") == first
        assert ask(clients[1], "cached", [[2, 1]])["TIMES"] == [1]  # its own first execution
        assert ask(clients[1], "cached", [[1], [2]]) == {"SUM": [1, 2], "TIMES": [2, 2]}
        assert (counts(servers[0]), counts(servers[1])) == ((0, 1), (2, 2))
    (repository / "cached" / "1" / "model.py").write_text(MODEL + "\n# another\n")
    with run_server(repository, *flags(store.port)) as server, connect(server, protocol) as client:
        ask(client, "cached", [[9, 9]])
        assert ask(client, "cached", [[1, 2]]) == {"SUM": [3], "TIMES": [2]}


def test_time_to_live_password_and_database(tmp_path: Path, repository: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "open sesame") as store:
        settings = flags(store.port, "password=open sesame", "db=3", "ttl=1000")
        with run_server(repository, *settings) as server, connect(server) as client:
            ask(client, "cached", [[1, 2]])
            with redis.Redis(port=store.port, db=3, password="open sesame") as direct:
                eventually(direct.dbsize, "the answer is not kept")
                [key] = direct.keys("*")
                assert 900 < direct.ttl(key) <= 1000
                assert ask(client, "cached", [[1, 2]])["TIMES"] == [1]
                direct.expire(key, 0)  # as if the time was over
            assert ask(client, "cached", [[1, 2]])["TIMES"] == [2]
        # who is not let in serves all the same, and says why, without the password
        wrong = flags(store.port, "password=guess me")
        with run_server(repository, *wrong) as server, connect(server) as client:
            assert [ask(client, "cached", [[1]])["TIMES"] for _ in range(3)] == [[1], [2], [3]]
            eventually(lambda: "executed without the response cache" in server.log, "nothing is said")
            assert "guess me" not in server.log


def test_where_it_is_may_come_from_the_environment(
    store: Redis, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "TRITON_REDIS_HOST", "127.0.0.1")
    monkeypatch.setitem(os.environ, "TRITON_REDIS_PORT", str(store.port))
    patient = [f"--cache-config=redis,{name}={value}" for name, value in PATIENT.items()]
    with run_server(repository, *patient) as server, connect(server) as client:
        ask(client, "cached", [[1]])
        assert len(kept(store, 1)) == 1


def test_garbage_under_a_key_is_a_miss_and_is_replaced(store: Redis, repository: Path) -> None:
    with run_server(repository, *flags(store.port)) as server, connect(server) as client, store.client() as direct:
        ask(client, "cached", [[1, 2]])
        [key] = kept(store, 1)
        good = direct.get(key)
        ask(client, "cached", [[5, 5]])
        other = direct.get(next(name for name in kept(store, 2) if name != key))
        # wrong, cut short, too long, with another's digest, of another's answer, and no text at all
        planted = [b"", b"garbage", good[:-1], good + b"\0", other, good[:32] + b"\xff" * 100, bytes(16 << 20)]
        for number, bad in enumerate(planted, start=3):
            direct.set(key, bad)
            assert ask(client, "cached", [[1, 2]]) == {"SUM": [3], "TIMES": [number]}
            eventually(lambda: direct.get(key) not in planted, "the right answer does not take its place")
        direct.delete(key)
        direct.lpush(key, "a list")
        assert ask(client, "cached", [[1, 2]])["TIMES"] == [len(planted) + 3]
        hits, misses = counts(server)
        assert (hits, misses) == (0, len(planted) + 3)
        assert client.is_server_live()


def test_it_is_killed_and_comes_back_under_load(store: Redis, repository: Path) -> None:
    done = threading.Event()
    with run_server(repository, *flags(store.port)) as server:

        def load(worker: int) -> int:
            asked = 0
            with connect(server, "http" if worker % 2 else "grpc") as client:
                while not done.is_set():
                    value = (worker * 31 + asked) % 11
                    assert ask(client, "cached", [[value, 1]])["SUM"] == [value + 1]
                    asked += 1
            return asked

        with ThreadPoolExecutor(4) as pool:
            workers = [pool.submit(load, number) for number in range(4)]
            try:
                eventually(lambda: counts(server)[0] > 50, "no hits")
                store.kill()
                eventually(lambda: "executed without the response cache" in server.log, "the end is not noticed")
                before = counts(server)[1]
                eventually(lambda: counts(server)[1] > before + 50, "nothing is executed")
                store.start()
                eventually(lambda: "the response cache is reached again" in server.log, "it is not found again")
                hits = counts(server)[0]
                eventually(lambda: counts(server)[0] > hits + 50, "no hits afterwards")
            finally:
                done.set()
            assert all(worker.result(timeout=60) > 0 for worker in workers)
        assert server.log.count("executed without the response cache") == 1


def test_one_that_never_answers_holds_nobody_up(store: Redis, repository: Path) -> None:
    """It takes connections and says nothing: who waits for it is executed, and later ones do not ask."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        settings = flags(listener.getsockname()[1], "wait_timeout=20")
        with run_server(repository, *settings) as server, connect(server) as client:
            assert [ask(client, "cached", [[1]])["TIMES"] for _ in range(50)] == [[n] for n in range(1, 51)]
            assert counts(server) == (0, 50)
            assert client.is_server_ready()
            started = time.monotonic()
        assert server.process.returncode == 0, f"stopped after {time.monotonic() - started:.0f} s"


def test_what_is_no_redis_is_no_harm(repository: Path) -> None:
    replies = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$99999999999999\r\n",
        b"*1000000000\r\n",
        b"+OK\r\n" * 100,
        b"\0" * 999,
    ]

    def serve(listener: socket.socket) -> None:
        for number in range(10_000):
            try:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(replies[number % len(replies)])
            except OSError:
                if listener.fileno() == -1:
                    return

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        settings = flags(listener.getsockname()[1], "socket_timeout=100", "wait_timeout=20")
        with run_server(repository, *settings) as server, connect(server) as client:
            for number in range(1, 21):
                assert ask(client, "cached", [[1]])["TIMES"] == [number]
                time.sleep(0.05)  # so that it is tried again some times
            assert client.is_server_ready()
