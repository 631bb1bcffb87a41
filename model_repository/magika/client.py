# SPDX-License-Identifier: Apache-2.0
"""The client's half of magika: bytes of a file -> tensor, scores -> label. numpy only.

Follows the configuration that the magika package carries (``labels.json``, written by ``fetch.py``), in its mode of
high confidence. No network, no server: what lies between the two halves is an inference request.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Magika"]


class Magika:
    """What the model expects and how its scores are read. Immutable; any thread."""

    def __init__(self) -> None:
        """Raises FileNotFoundError before ``fetch.py`` has run."""
        self._config: dict[str, Any] = json.loads(Path(__file__).with_name("labels.json").read_text())

    def label_without_model(self, content: bytes) -> str | None:
        """The label of a file that has too little in it for the model, else None."""
        config = self._config
        if not content:
            return "empty"
        enough = config["min_file_size_for_dl"]
        if len(content) >= enough and len(content[: config["block_size"]].lstrip()) >= enough:
            return None
        try:
            content[: config["block_size"]].decode("utf-8")
        except UnicodeDecodeError:
            return "unknown"
        return "txt"

    def features(self, content: bytes) -> NDArray[np.int32]:
        """INT32 [2048]: the first 1024 bytes without leading white space, then the last without trailing; 256 pads."""
        config = self._config
        block, padding = config["block_size"], config["padding_token"]
        head = content[:block].lstrip()[: config["beg_size"]]
        tail = content[-block:].rstrip()[-config["end_size"] :]
        row = np.full(config["beg_size"] + config["end_size"], padding, np.int32)
        row[: len(head)] = np.frombuffer(head, np.uint8)
        row[len(row) - len(tail) :] = np.frombuffer(tail, np.uint8)
        return row

    def label(self, scores: NDArray[np.float32]) -> tuple[str, float]:
        """(label, score) from the model's 214 scores; ``txt`` or ``unknown`` where the best score is too low."""
        config = self._config
        best = int(np.argmax(scores))
        name, score = config["target_labels_space"][best], float(scores[best])
        label = config["overwrite_map"].get(name, name)
        if score < config["thresholds"].get(name, config["medium_confidence_threshold"]):
            label = "txt" if config["is_text"][label] else "unknown"
        return label, score
