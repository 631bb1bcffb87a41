# SPDX-License-Identifier: Apache-2.0
"""Charts are well-formed, hold every number, and are the same bytes each time."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from perf.plots import chart

ROWS = [
    ("a <very> long label, " * 5, {"pyinfer": (4.0, 5.0, 6.0), "triton": (50.0, 55.7, 70.0)}),
    ("short", {"pyinfer": (0.5, 0.5, 12_345.0)}),
]
SVG = "{http://www.w3.org/2000/svg}"


def test_a_chart_shows_its_values_in_order() -> None:
    text = chart("CPU & more", "us", ROWS, middle="median", ends="all")
    root = ET.fromstring(text)
    words = [node.text or "" for node in root.iter(f"{SVG}text")]
    assert {"CPU & more", "pyinfer", "triton", "5", "55.7", "0.5", "short"} <= set(words)
    assert any(word.startswith("a <very> long") and word.endswith("…") for word in words)
    # ticks from 0.1 to 100,000
    assert {"0.1", "1", "10", "100", "1,000", "10,000", "100,000"} <= set(words)
    dots = [float(node.get("cx", "")) for node in root.iter(f"{SVG}circle")][2:]  # after the legend
    assert dots[2] < dots[0] < dots[1]
    _, _, width, height = map(float, root.get("viewBox", "").split())
    for node in root.iter(f"{SVG}text"):
        assert 0 <= float(node.get("x", "")) < width
        assert 0 <= float(node.get("y", "")) < height
    assert text == chart("CPU & more", "us", ROWS, middle="median", ends="all")


def test_equal_values_have_a_scale() -> None:
    assert "svg" in chart("one", "us", [("a", {"b": (10.0, 10.0, 10.0)})], middle="m", ends="e")
