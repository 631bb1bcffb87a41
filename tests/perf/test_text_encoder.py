# SPDX-License-Identifier: Apache-2.0
"""The text encoder that padding is measured with: its graph, its texts, and how these become numbers."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from perf.minilm import WordPieces, texts
from perf.text_encoder import Encoder, build_encoder, random_weights

SMALL = Encoder(layers=2, hidden=16, heads=4, inner=32, vocabulary=100, positions=32)


def test_tokens_that_the_mask_leaves_out_change_nothing() -> None:
    session = onnxruntime.InferenceSession(build_encoder(SMALL, random_weights(SMALL)))

    def run(ids: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return list(session.run(["last_hidden_state", "sentence_embedding"], feeds))

    ids = np.random.default_rng(1).integers(1, 100, (3, 7))
    hidden, vectors = run(ids, np.ones_like(ids))
    mask = np.pad(np.ones_like(ids), ((0, 0), (0, 9)))
    for filler in (0, 42):
        padded_hidden, padded_vectors = run(np.pad(ids, ((0, 0), (0, 9)), constant_values=filler), mask)
        np.testing.assert_allclose(padded_hidden[:, :7], hidden, atol=1e-5)
        np.testing.assert_allclose(padded_vectors, vectors, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(run(ids, mask[:, 4:11])[1], vectors, atol=1e-2)  # what the mask has does count


def test_the_longest_pieces_of_words_come_first() -> None:
    pieces = {
        name: number for number, name in enumerate(["[CLS]", "[SEP]", "[UNK]", "un", "##like", "##ly", "##l", ","])
    }
    cut = WordPieces(pieces)
    assert cut.ids("Unlikely") == [0, 3, 4, 5, 1]
    assert cut.ids("unlikes") == [0, 2, 1]  # no piece for what is left
    assert cut.ids("unlike, unly") == [0, 3, 4, 7, 3, 5, 1]
    assert cut.ids("x" * 1000) == [0, 2, 1]


@pytest.mark.parametrize(("kind", "least", "words"), [("titles", 100, 1), ("sentences", 2000, 3)])
def test_texts_are_real_and_differ_in_length(kind: str, least: int, words: int) -> None:
    found = texts("titles" if kind == "titles" else "sentences")
    lengths = sorted(len(text.split()) for text in found)
    assert len(found) >= least
    assert lengths[len(lengths) // 10] >= words
    assert lengths[-len(lengths) // 10] >= 2 * lengths[len(lengths) // 10]
