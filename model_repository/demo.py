# SPDX-License-Identifier: Apache-2.0
"""Serve this repository and show what its models answer to real input. ``make run`` runs this.

Fetches the model files that are not there yet, starts ``pyinfer serve`` as a child process, asks every model through
``tritonclient`` over HTTP, gRPC or both, prints the answers and leaves the server up until Ctrl-C. With ``--check`` it
stops the server instead and exits with 0 only if every answer was right.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray

# A folder in a model repository is a model, and __pycache__ is none.
sys.dont_write_bytecode = True

import fetch  # noqa: E402

__all__ = ["Client", "Row", "answers", "main"]

ROOT = Path(__file__).resolve().parent
#: files of this project that magika is shown, those that exist
_FILES = (
    "README.md",
    "LICENSE",
    "Makefile",
    "CMakeLists.txt",
    "pyproject.toml",
    "model_repository/fetch.py",
    "model_repository/add_sub/config.pbtxt",
    "model_repository/magika/labels.json",
    "model_repository/simple_mlp/1/model.onnx",
    "csrc/sched/policy.cc",
    "protos/inference.proto",
)
#: model, protocol, what was sent, what came back, whether it is right
Row = tuple[str, str, str, str, bool]


class Client:
    """One inference call, the same over both protocols."""

    def __init__(self, protocol: str, address: str) -> None:
        self.protocol = protocol
        self._library: Any = tritonclient.http if protocol == "HTTP" else tritonclient.grpc
        self._client = self._library.InferenceServerClient(address)

    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], **sequence: Any
    ) -> dict[str, NDArray[Any]]:
        """Inputs by name -> outputs by name. ``sequence``: ``sequence_id``, ``sequence_start``, ``sequence_end``."""
        given = []
        for name, value in inputs.items():
            datatype = {"float32": "FP32", "int32": "INT32", "int64": "INT64", "uint8": "UINT8"}[value.dtype.name]
            given.append(self._library.InferInput(name, list(value.shape), datatype))
            given[-1].set_data_from_numpy(value)
        wanted = [self._library.InferRequestedOutput(name) for name in outputs]
        result = self._client.infer(model, given, outputs=wanted, **sequence)
        return {name: result.as_numpy(name) for name in outputs}

    def close(self) -> None:
        self._client.close()


def answers(http: Client, grpc: Client, http_address: str) -> Iterator[Row]:
    """Ask every model once, real input each time."""
    yield from _identity(http)
    yield from _identity(grpc)
    yield from _add_sub(http)
    yield from _words(http_address)
    yield from _simple_mlp(grpc)
    yield from _silero_vad(grpc)
    yield from _silero_vad_stream(grpc)
    yield from _text_detection(http)
    yield from _text_reading(grpc)
    yield from _magika(grpc)


def _identity(client: Client) -> Iterator[Row]:
    row = np.arange(16, dtype=np.float32)[np.newaxis]
    back = client.infer("identity", {"INPUT0": row}, ["OUTPUT0"])["OUTPUT0"]
    yield "identity", client.protocol, "0, 1, ... 15", f"{_numbers(back[0, :3])}, ... {back[0, -1]:g}", _same(back, row)


def _add_sub(client: Client) -> Iterator[Row]:
    left, right = np.array([[1, 2, 3, 4]], np.float32), np.array([[10, 20, 30, 40]], np.float32)
    out = client.infer("add_sub", {"INPUT0": left, "INPUT1": right}, ["OUTPUT0", "OUTPUT1"])
    right_answer = _same(out["OUTPUT0"], left + right) and _same(out["OUTPUT1"], left - right)
    given = f"{_numbers(left[0])} and {_numbers(right[0])}"
    back = f"sum {_numbers(out['OUTPUT0'][0])}; difference {_numbers(out['OUTPUT1'][0])}"
    yield "add_sub", client.protocol, given, back, right_answer


def _words(address: str) -> Iterator[Row]:
    text = "a word at a time"
    url = f"http://{address}/v2/models/words/generate_stream"
    with urllib.request.urlopen(url, json.dumps({"TEXT": text}).encode(), timeout=60) as events:
        words = [json.loads(line.removeprefix(b"data: "))["WORD"] for line in events if line.strip()]
    yield "words", "HTTP", f'"{text}"', f"{len(words)} events: {', '.join(words)}", words == text.split()


def _simple_mlp(client: Client) -> Iterator[Row]:
    rows = np.random.default_rng(7).standard_normal((4, 256)).astype(np.float32)
    out = client.infer("simple_mlp", {"x": rows}, ["y"])["y"]
    alone = np.concatenate([client.infer("simple_mlp", {"x": row[np.newaxis]}, ["y"])["y"] for row in rows])
    right_answer = out.shape == (4, 10) and bool(np.allclose(out, alone, atol=1e-4))
    yield (
        "simple_mlp",
        client.protocol,
        "4 rows of 256 random numbers",
        f"classes {_numbers(out.argmax(1))}",
        right_answer,
    )


def _silero_vad(client: Client) -> Iterator[Row]:
    vad = _client_of("silero_vad")
    speech = vad.detect(
        vad.tone_between_silence(), lambda inputs: client.infer("silero_vad", inputs, ["output", "stateN"])
    )
    thirds = [float(part.mean()) for part in np.array_split(speech, 3)]
    right_answer = thirds[0] < 0.2 < 0.8 < thirds[1] and thirds[2] < 0.4
    back = "speech " + ", ".join(f"{share:.0%}" for share in thirds)
    yield "silero_vad", client.protocol, "silence, a voice-like tone, silence, 1 s each", back, right_answer


def _silero_vad_stream(client: Client) -> Iterator[Row]:
    """Windows of sound and nothing else: the server keeps what the model remembers of the stream."""
    vad = _client_of("silero_vad")
    sound = vad.tone_between_silence()
    windows = sound[: len(sound) // vad.WINDOW * vad.WINDOW].reshape(-1, 1, vad.WINDOW)
    last = len(windows) - 1
    speech = [
        client.infer(
            "silero_vad_stream",
            {"window": window},
            ["speech"],
            sequence_id=1,
            sequence_start=index == 0,
            sequence_end=index == last,
        )["speech"][0, 0]
        for index, window in enumerate(windows)
    ]
    alone = vad.detect(sound, lambda inputs: client.infer("silero_vad", inputs, ["output", "stateN"]))
    back = f"the answers of silero_vad to all {len(windows)} windows"
    same = bool(np.allclose(speech, alone, atol=1e-5))
    yield "silero_vad_stream", client.protocol, "the same, window by window", back if same else "something else", same


def _text_detection(client: Client) -> Iterator[Row]:
    text = _client_of("text_detection")
    lines = ("One wheel serves models", "over HTTP and gRPC", "without a container")
    picture = text.prepare(text.draw_text(lines))[np.newaxis]
    out = client.infer("text_detection", {"x": picture}, ["fetch_name_0"])["fetch_name_0"]
    boxes = text.boxes(out[0, 0])
    for index, box in enumerate(boxes):
        given = f'a picture that says "{lines[index]}"' if index < len(lines) else "(the same picture)"
        back = f"text at x {box.left}-{box.right}, y {box.top}-{box.bottom}, {box.score:.0%} sure"
        yield "text_detection", client.protocol, given, back, len(boxes) == len(lines)
    if not boxes:
        yield "text_detection", client.protocol, "a picture with text", "no text found", False


def _text_reading(client: Client) -> Iterator[Row]:
    if importlib.util.find_spec("rapidocr") is None:
        print("the rapidocr package is not installed: text_reading was not asked (pip install rapidocr==3.10.0)")
        return
    lines = ["One wheel serves models", "over HTTP and gRPC", "without a container"]
    picture = _client_of("text_detection").draw_text(lines)
    out = client.infer("text_reading", {"IMAGE": picture}, ["TEXT", "SCORE"])
    read = [text.decode() for text in out["TEXT"]]
    back = f"{', '.join(read)} ({out['SCORE'].min(initial=1):.0%} sure or more)"
    yield "text_reading", client.protocol, "a picture with three lines of text", back, read == lines


def _magika(client: Client) -> Iterator[Row]:
    magika, say = _client_of("magika").Magika(), _magika_package()
    paths = [ROOT.parent / name for name in _FILES if (ROOT.parent / name).is_file()]
    contents = [path.read_bytes() for path in paths]
    features = np.stack([magika.features(content) for content in contents])
    scores = client.infer("magika", {"bytes": features}, ["target_label"])["target_label"]
    for path, content, row in zip(paths, contents, scores, strict=True):
        label, score = magika.label(row)
        label = magika.label_without_model(content) or label
        theirs = say(content) if say else None
        note = (
            "" if theirs is None else (", as the package says" if theirs == label else f", the package says {theirs}")
        )
        name = str(path.relative_to(ROOT.parent))
        yield "magika", client.protocol, name, f"{label} ({score:.0%}{note})", theirs in {None, label}
    if say is None:
        print("the magika package is not installed: its own answers were not compared (pip install magika)")


def _magika_package() -> Callable[[bytes], str] | None:
    """What the package itself says of some bytes; None where it is not installed."""
    try:
        from magika import Magika
    except ImportError:
        return None
    package = Magika()
    return lambda content: str(package.identify_bytes(content).output.label)


def _client_of(model: str) -> ModuleType:
    """``<model>/client.py``, the client's half of a model."""
    spec = importlib.util.spec_from_file_location(f"{model}_client", ROOT / model / "client.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"no client for {model}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return bool(np.array_equal(one, other))


def _numbers(values: NDArray[Any]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _print_table(rows: Sequence[Row]) -> None:
    head = ("model", "over", "sent", "answer")
    widths = [max(len(str(row[i])) for row in (head, *rows)) for i in range(4)]
    print("\n" + "  ".join(text.ljust(width) for text, width in zip(head, widths, strict=True)).rstrip())
    print("  ".join("-" * width for width in widths))
    for *cells, right in rows:
        line = "  ".join(str(cell).ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        print(line + ("" if right else "  <- WRONG"))
    print(flush=True)


def _wait_ready(server: subprocess.Popen[bytes], address: str, seconds: float = 120) -> None:
    client, end = tritonclient.http.InferenceServerClient(address), time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            if client.is_server_ready():
                client.close()
                return
        except OSError:
            pass  # nobody listens yet
        time.sleep(0.05)
    why = f"ended with status {server.returncode}" if server.poll() is not None else f"was not ready in {seconds:.0f} s"
    raise SystemExit(f"demo: the server {why}; its own output above says more")


def _next_steps(http: str, grpc: str) -> str:
    body = '{"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}'
    words = '{"TEXT": "one after the other", "pause": 0.5}'
    return (
        f"The server stays up: HTTP on {http}, gRPC on {grpc}. Try\n\n"
        f"  curl -s {http}/v2/models/identity/infer -d '{body}'\n"
        f"  curl -sN {http}/v2/models/words/generate_stream -d '{words}'\n"
        f"  curl -s {http}/v2/models/magika/config\n\nCtrl-C stops it."
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="stop the server after the answers; 0 if all were right")
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        parser.add_argument(f"--{name}-port", type=int, default=port, help=f"({port})")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; return the exit status."""
    options = _options(arguments)
    try:
        fetch.fetch()
    except fetch.FetchError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    http, grpc = f"127.0.0.1:{options.http_port}", f"127.0.0.1:{options.grpc_port}"
    ports = [f"--{name}-port={getattr(options, f'{name}_port')}" for name in ("http", "grpc", "metrics")]
    command = [sys.executable, "-m", "pyinfer", "serve", f"--model-repository={ROOT}", *ports]
    # kill and Ctrl-C end the demonstration the same way; the server, in its own session, hears of it from us alone
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(command, start_new_session=True)
    try:
        _wait_ready(server, http)
        clients = Client("HTTP", http), Client("gRPC", grpc)
        rows = list(answers(*clients, http))
        for client in clients:
            client.close()
        _print_table(rows)
        right = all(row[-1] for row in rows)
        if not options.check:
            print(_next_steps(http, grpc), flush=True)
            return server.wait()
    except KeyboardInterrupt:
        right = True
    finally:
        server.terminate()
        status = server.wait()
    return 0 if right and status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
