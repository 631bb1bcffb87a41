# SPDX-License-Identifier: Apache-2.0
"""The ensemble that reads text, served, against the package whose models and steps it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import rapidocr
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from pyinfer.testing import RunningServer, run_server

PAGES = {
    "two lines": (["One wheel serves models", "over HTTP and gRPC"], (640, 200)),
    "one word": (["Hello"], (200, 60)),
    "nothing": ([], (100, 100)),
    "a page": ([f"Line {number} of this page: {number * 3.14:.2f}" for number in range(12)], (700, 900)),
    "a flat picture": (["text in a picture that is more than eight times wider than high"], (1400, 60)),
    "larger than it is read": (["A large picture is scaled down"], (2400, 400)),
}


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[RunningServer]:
    flags = ("--model-control-mode=explicit", "--load-model=text_reading")
    with run_server(models, *flags) as running:
        yield running


@pytest.fixture(scope="module")
def package() -> Any:
    """rapidocr as it comes, but told to read all lines of a picture at once, as the ensemble does."""
    return rapidocr.RapidOCR(params={"Rec.rec_batch_num": 256, "Global.log_level": "error"})


def read(server: RunningServer, module: Any, picture: np.ndarray) -> Any:
    given = module.InferInput("IMAGE", picture.shape, "UINT8")
    given.set_data_from_numpy(picture)
    client = module.InferenceServerClient(server.http if module is http_client else server.grpc)
    try:
        return client.infer("text_reading", [given])
    finally:
        client.close()


def compare(package: Any, picture: np.ndarray, result: Any) -> list[str]:
    theirs = package(np.ascontiguousarray(picture[..., ::-1]))
    texts = [text.decode() for text in result.as_numpy("TEXT")]
    assert texts == list(theirs.txts or ())
    if texts:
        np.testing.assert_allclose(result.as_numpy("SCORE"), theirs.scores, atol=1e-4)
        np.testing.assert_allclose(result.as_numpy("BOX"), theirs.boxes, atol=1e-3)
    else:
        assert result.as_numpy("BOX").shape == (0, 4, 2)
    return texts


@pytest.mark.parametrize("page", PAGES)
def test_equals_the_package(
    server: RunningServer, client_of: Callable[[str], ModuleType], package: Any, page: str
) -> None:
    lines, size = PAGES[page]
    picture = client_of("text_detection").draw_text(lines, size=size)
    for module in (http_client, grpc_client):
        assert len(compare(package, picture, read(server, module, picture))) == len(lines)


def test_colours_and_pictures_side_by_side(
    server: RunningServer, client_of: Callable[[str], ModuleType], package: Any
) -> None:
    draw, pictures = client_of("text_detection").draw_text, []
    for number in range(6):
        picture = draw([f"picture number {number}", "in colours"], size=(400 + 40 * number, 160))
        ink = picture < 128
        pictures.append(np.where(ink, np.array([20, 60, 160], np.uint8), picture).astype(np.uint8))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda picture: read(server, grpc_client, picture), pictures))
    for number, (picture, result) in enumerate(zip(pictures, results, strict=True)):
        assert compare(package, picture, result)[0] == f"picture number {number}"


def test_a_picture_that_is_none(server: RunningServer) -> None:
    with pytest.raises(InferenceServerException, match="unexpected shape for input 'IMAGE'"):
        read(server, http_client, np.zeros((4, 4, 4), np.uint8))
