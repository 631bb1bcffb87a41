# SPDX-License-Identifier: Apache-2.0
"""The client's half of silero_vad: sound -> windows, and the state that is carried from one window to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["RATE", "WINDOW", "Infer", "detect", "tone_between_silence"]

#: samples a second, samples in a window, and samples before a window that the model wants to see again
RATE, WINDOW, _CONTEXT = 16_000, 512, 64
#: one inference: inputs by name -> outputs by name
Infer = Callable[[Mapping[str, NDArray[np.generic]]], Mapping[str, NDArray[np.float32]]]


def detect(sound: NDArray[np.float32], infer: Infer) -> NDArray[np.float32]:
    """The probability of speech in each whole window of ``sound`` (FP32 [samples], -1 to 1, 16 kHz)."""
    state, context, answers = np.zeros((2, 1, 128), np.float32), np.zeros(_CONTEXT, np.float32), []
    for start in range(0, len(sound) - WINDOW + 1, WINDOW):
        window = np.concatenate([context, sound[start : start + WINDOW]])
        out = infer({"input": window[np.newaxis], "state": state, "sr": np.array([RATE], np.int64)})
        state, context = out["stateN"], window[-_CONTEXT:]
        answers.append(float(out["output"][0, 0]))
    return np.array(answers, np.float32)


def tone_between_silence(pitch: float = 120.0, seconds: float = 1.0) -> NDArray[np.float32]:
    """Silence, a voice-like tone (harmonics under two formants, syllables at 4 Hz), silence: ``seconds`` of each."""
    t = np.arange(int(RATE * seconds)) / RATE
    phase = 2 * np.pi * (pitch * t + 3 * np.sin(2 * np.pi * 5 * t) / 5)
    voice = np.zeros_like(t)
    for harmonic in range(1, 30):
        frequency = pitch * harmonic
        formants = sum(np.exp(-(((frequency - centre) / width) ** 2)) for centre, width in ((700, 150), (1200, 200)))
        voice += (formants + 0.02) * np.sin(harmonic * phase)
    voice *= 0.55 - 0.45 * np.cos(2 * np.pi * 4 * t)
    silence = np.zeros_like(t)
    return np.concatenate([silence, 0.5 * voice / np.abs(voice).max(), silence]).astype(np.float32)
