# SPDX-License-Identifier: Apache-2.0
"""The client halves of the example models, with onnxruntime itself where the server will be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ClientOf = Callable[[str], ModuleType]
SessionOf = Callable[[str], Any]
Label = Callable[[bytes], tuple[str, float]]

CORNERS = {
    "empty": b"",
    "one byte": b"a",
    "seven bytes": b"abcdefg",
    "eight bytes": b"abcdefgh",
    "eight in white space": b"  \n abcdefgh \t ",
    "seven in white space": b"  \n abcdefg \t ",
    "only white space": b" " * 100,
    "a block of white space, then code": b" " * 4096 + b"int main() { return 0; }\n" * 50,
    "almost a block of white space": b"\n" * 4090 + b"int main",
    "not UTF-8, short": b"\xff\xfe\xfd",
    "not UTF-8, in white space": b"      \xff\xfe      ",
    "a character cut by the block": b" " * 4095 + "é".encode() * 9,
    "exactly the head": b"x" * 1024,
    "exactly a block": bytes(range(256)) * 16,
    "one more than a block": b"\x00" + bytes(range(256)) * 16,
}


@pytest.fixture(scope="module")
def package_label() -> Label:
    from magika import Magika

    package = Magika()

    def label(content: bytes) -> tuple[str, float]:
        result = package.identify_bytes(content)
        return str(result.output.label), result.score

    return label


@pytest.fixture(scope="module")
def our_label(client_of: ClientOf, session_of: SessionOf) -> Label:
    client, session = client_of("magika").Magika(), session_of("magika")

    def label(content: bytes) -> tuple[str, float]:
        sure = client.label_without_model(content)
        if sure is not None:
            return sure, 1.0
        return client.label(session.run(None, {"bytes": client.features(content)[np.newaxis]})[0][0])

    return label


@pytest.mark.parametrize("content", CORNERS.values(), ids=CORNERS.keys())
def test_magika_equals_the_package_in_the_corners(content: bytes, our_label: Label, package_label: Label) -> None:
    theirs = package_label(content)
    assert our_label(content) == (theirs[0], pytest.approx(theirs[1], abs=1e-5))


def test_magika_equals_the_package_on_this_projects_files(
    repository_root: Path, our_label: Label, package_label: Label
) -> None:
    paths = [
        path
        for folder in ("model_repository", "perf", "tests/examples")
        for path in (repository_root / folder).rglob("*")
    ]
    paths += repository_root.glob("*")
    contents = {str(path): path.read_bytes() for path in paths if path.is_file()}
    assert len(contents) > 30
    ours = {path: our_label(content)[0] for path, content in contents.items()}
    assert ours == {path: package_label(content)[0] for path, content in contents.items()}
    assert {"python", "makefile", "onnx", "textproto"} <= set(ours.values())


@given(
    st.one_of(
        st.binary(max_size=40),
        st.tuples(st.sampled_from([b" ", b"\n\t", b"{", b"\x00"]), st.integers(0, 5000), st.binary(max_size=64)).map(
            lambda parts: parts[0] * parts[1] + parts[2]
        ),
    )
)
@settings(max_examples=60)
def test_magika_equals_the_package_on_any_bytes(our_label: Label, package_label: Label, content: bytes) -> None:
    theirs = package_label(content)
    assert our_label(content) == (theirs[0], pytest.approx(theirs[1], abs=1e-5))


def test_silero_vad_hears_the_voice_and_not_the_silence(client_of: ClientOf, session_of: SessionOf) -> None:
    vad, session = client_of("silero_vad"), session_of("silero_vad")
    sound = vad.tone_between_silence()
    assert sound.dtype == np.float32
    assert np.abs(sound).max() == pytest.approx(0.5)
    speech = vad.detect(
        sound, lambda inputs: dict(zip(("output", "stateN"), session.run(None, dict(inputs)), strict=True))
    )
    assert speech.shape == (len(sound) // vad.WINDOW,)
    silence, voice, after = np.array_split(speech, 3)
    assert silence.max() < 0.2
    assert np.median(voice) > 0.9
    assert after[-10:].max() < 0.2


def test_silero_vad_carries_state_and_context(client_of: ClientOf) -> None:
    vad, seen = client_of("silero_vad"), []

    def infer(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append(inputs)
        return {"output": np.array([[0.25]], np.float32), "stateN": inputs["state"] + 1}

    sound = np.arange(3 * vad.WINDOW + 100, dtype=np.float32)
    assert vad.detect(sound, infer).tolist() == [0.25, 0.25, 0.25]
    assert [float(inputs["state"].max()) for inputs in seen] == [0, 1, 2]
    assert all(inputs["input"].shape == (1, vad.WINDOW + 64) for inputs in seen)
    assert np.array_equal(seen[1]["input"][0], sound[vad.WINDOW - 64 : 2 * vad.WINDOW])
    assert not seen[0]["input"][0, :64].any()


def test_text_detection_finds_each_line_and_nothing_else(client_of: ClientOf, session_of: SessionOf) -> None:
    text, session = client_of("text_detection"), session_of("text_detection")
    picture = text.draw_text(["One line of text", "and another"], size=(500, 200))
    given = text.prepare(picture)
    assert given.shape == (3, 224, 512)
    boxes = text.boxes(session.run(None, {"x": given[np.newaxis]})[0][0, 0])
    assert len(boxes) == 2
    for box, rows in zip(boxes, (slice(0, 100), slice(100, 200)), strict=True):
        ink_rows, ink_columns = np.nonzero((picture[rows] < 128).all(axis=2))
        ink_rows += rows.start
        assert abs(box.left - ink_columns.min()) < 15
        assert abs(box.right - ink_columns.max()) < 15
        assert box.top < np.median(ink_rows) < box.bottom
    blank = text.prepare(np.full((64, 64, 3), 255, np.uint8))
    assert text.boxes(session.run(None, {"x": blank[np.newaxis]})[0][0, 0]) == []


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["......", "......", "......"], []),
        (["###...", "###...", "###..."], [(0, 0, 3, 3)]),
        (["###.###", "###.###", "###.###"], [(0, 0, 3, 3), (4, 0, 7, 3)]),
        (["#######", "#.....#", "#.###.#", "#.#.#.#", "#.#.#.#", "#...#.#", "#####.#"], [(0, 0, 7, 7)]),
        (["###", "###", "###"], [(0, 0, 3, 3)]),
        (["##.", "##.", "..."], []),
    ],
)
def test_boxes_are_connected_areas(client_of: ClientOf, rows: list[str], expected: list[tuple[int, ...]]) -> None:
    drawn = np.array([[cell == "#" for cell in row] for row in rows], np.float32)
    margin = {(0, 0, 3, 3): 1, (4, 0, 7, 3): 1, (0, 0, 7, 7): 2}
    found = client_of("text_detection").boxes(drawn)
    height, width = drawn.shape
    grown = [
        (max(0, x0 - m), max(0, y0 - m), min(width, x1 + m), min(height, y1 + m))
        for (x0, y0, x1, y1) in expected
        for m in [margin[x0, y0, x1, y1]]
    ]
    assert [(box.left, box.top, box.right, box.bottom) for box in found] == grown
    assert all(box.score == 1 for box in found)
