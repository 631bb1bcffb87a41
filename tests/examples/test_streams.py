# SPDX-License-Identifier: Apache-2.0
"""Many streams of sound at once over gRPC, with state kept by the server, against the model run as its package does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from pyinfer.testing import RunningServer, run_server

RATE, WINDOW, CONTEXT = 16_000, 512, 64
STREAMS, WINDOWS = 24, 60

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[RunningServer]:
    flags = ("--model-control-mode=explicit", "--load-model=silero_vad_stream")
    with run_server(models, *flags) as running:
        yield running


@pytest.fixture(scope="module")
def sounds(client_of: Callable[[str], Any]) -> Floats:
    """FP32 [STREAMS, WINDOWS, WINDOW]: voices of different pitch that begin at different times, and noise."""
    vad = client_of("silero_vad")
    random = np.random.default_rng(11)
    made = np.zeros((STREAMS, WINDOWS * WINDOW), np.float32)
    for row in range(STREAMS):
        voice = vad.tone_between_silence(pitch=90 + 8 * row, seconds=0.5)
        begin = int(random.integers(0, made.shape[1] - len(voice)))
        made[row, begin : begin + len(voice)] += voice
        made[row] += 0.01 * random.standard_normal(made.shape[1]).astype(np.float32)
    return made.reshape(STREAMS, WINDOWS, WINDOW)


def as_the_package_does(session: Any, windows: Floats) -> list[float]:
    """The steps of ``OnnxWrapper`` of silero-vad: state and the last 64 samples go from one window to the next."""
    state, context, answers = np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT, np.float32), []
    for window in windows:
        heard = np.concatenate([context, window])
        out, state = session.run(None, {"input": heard[np.newaxis], "state": state, "sr": np.array(RATE, np.int64)})
        context = heard[-CONTEXT:]
        answers.append(float(out[0, 0]))
    return answers


def listen(address: str, stream: int, windows: Floats, *, end: bool = True) -> list[float]:
    answers = []
    with triton.InferenceServerClient(address) as client:
        for index, window in enumerate(windows):
            tensor = triton.InferInput("window", [1, WINDOW], "FP32")
            tensor.set_data_from_numpy(window[np.newaxis])
            result = client.infer(
                "silero_vad_stream",
                [tensor],
                sequence_id=stream,
                sequence_start=index == 0,
                sequence_end=end and index == len(windows) - 1,
            )
            answers.append(float(result.as_numpy("speech")[0, 0]))
    return answers


def test_many_streams_equal_the_package_window_by_window(
    server: RunningServer, sounds: Floats, session_of: Callable[[str], Any]
) -> None:
    session = session_of("silero_vad")
    expected = np.array([as_the_package_does(session, windows) for windows in sounds])
    assert expected.max() > 0.9  # there is speech to be found
    assert expected.min() < 0.1
    with ThreadPoolExecutor(STREAMS) as pool:
        calls: list[Future[list[float]]] = [
            pool.submit(listen, server.grpc, 1 + row, sounds[row]) for row in range(STREAMS)
        ]
        got = np.array([call.result(timeout=120) for call in calls])
    # rows of a batch are computed as they are alone, up to the order of additions
    np.testing.assert_allclose(got, expected, atol=1e-5)
    with triton.InferenceServerClient(server.grpc) as client:
        stats = client.get_inference_statistics("silero_vad_stream", as_json=True)["model_stats"][0]
    assert int(stats["inference_count"]) == STREAMS * WINDOWS
    # streams were executed together
    assert any(int(batch["batch_size"]) > 1 for batch in stats["batch_stats"])


def test_a_new_stream_of_the_same_number_remembers_nothing(server: RunningServer, sounds: Floats) -> None:
    first = listen(server.grpc, 1000, sounds[0][:20], end=False)
    assert listen(server.grpc, 1000, sounds[0][:20]) == pytest.approx(first, abs=1e-6)


def test_clients_see_no_state(server: RunningServer) -> None:
    with triton.InferenceServerClient(server.grpc) as client:
        metadata = client.get_model_metadata("silero_vad_stream", as_json=True)
        assert [tensor["name"] for tensor in metadata["inputs"]] == ["window"]
        assert [tensor["name"] for tensor in metadata["outputs"]] == ["speech"]
        tensors = []
        for name, shape in (("window", [1, WINDOW]), ("stream_state", [1, 2, 128])):
            tensors.append(triton.InferInput(name, shape, "FP32"))
            tensors[-1].set_data_from_numpy(np.zeros(shape, np.float32))
        with pytest.raises(InferenceServerException, match="expected 1 inputs but got 2 inputs"):
            client.infer("silero_vad_stream", tensors, sequence_id=7, sequence_start=True)
        wanted = [triton.InferRequestedOutput("next_state")]
        with pytest.raises(InferenceServerException, match="unexpected inference output 'next_state'"):
            client.infer("silero_vad_stream", tensors[:1], outputs=wanted, sequence_id=7, sequence_start=True)
