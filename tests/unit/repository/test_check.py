# SPDX-License-Identifier: Apache-2.0
"""``pyinfer config check``: every fault of a repository, at its place, and the command around it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyinfer.backends.find import backend_fault, may_auto_complete, may_use_devices
from pyinfer.repository.check import check
from pyinfer.repository.check_model import BackendKnowledge, CheckOptions

OPTIONS = CheckOptions(BackendKnowledge(backend_fault, may_auto_complete, may_use_devices))
IO = "input { name: 'x' data_type: TYPE_FP32 dims: 4 } output { name: 'y' data_type: TYPE_FP32 dims: 4 }\n"
IDENTITY = f"backend: 'identity' max_batch_size: 8\n{IO}"

FAULTY = """\
name: "other"
backend: "identity"
max_batch_size: 4
max_batch_sise: 4
input [
  { name: "x" data_type: TYPE_FP3 dims: [ 0 ] },
  { name: "x" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 3 ] } }
]
output { name: "y" data_type: TYPE_FP32 dims: 4 label_filename: "labels.txt" }
output { name: "z" data_type: TYPE_FP32 dims: 4 label_filename: "../labels.txt" }
dynamic_batching { preferred_batch_size: [ 8 ] }
instance_group { kind: KIND_CPU gpus: 1 count: 2000 }
"""


def add(repository, name, config=None, *files):
    directory = repository / name
    for file in files or ("1/",):
        target = directory / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.endswith("/"):
            target.mkdir(exist_ok=True)
        else:
            target.write_text("x")
    if config is not None:
        (directory / "config.pbtxt").write_text(config)


def told(*repositories, options=OPTIONS):
    """(place below the first repository, field, message) of each finding."""
    base = f"{repositories[0]}/"
    return [
        (
            ":".join(str(part) for part in (one.file.removeprefix(base), one.line, one.column) if part),
            one.field,
            one.message,
        )
        for one in check(repositories, options).findings
    ]


def test_a_sound_repository(tmp_path):
    add(tmp_path, "a", IDENTITY)
    add(tmp_path, "b", None, "1/model.py")
    add(tmp_path, "c", None, "3/model.onnx")
    (tmp_path / ".git").mkdir()
    (tmp_path / "README").write_text("x")
    report = check([tmp_path], OPTIONS)
    assert (report.models, report.findings) == (3, ())
    assert report.text() == "3 models checked, 0 problems found\n"
    assert json.loads(report.json()) == {"models": 3, "problems": []}


def test_every_fault_of_a_configuration(tmp_path):
    add(tmp_path, "m", FAULTY)
    assert told(tmp_path) == [
        (
            "m/config.pbtxt:1:1",
            "name",
            "unexpected directory name 'm' for model 'other', directory name must equal model name",
        ),
        (
            "m/config.pbtxt:4:1",
            "max_batch_sise",
            "ModelConfig has no field 'max_batch_sise'; did you mean 'max_batch_size'?",
        ),
        ("m/config.pbtxt:6:26", "input[0].data_type", 'Enum type "inference.DataType" has no value named TYPE_FP3.'),
        (
            "m/config.pbtxt:6:35",
            "input[0].dims",
            "model input 'x' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for other",
        ),
        ("m/config.pbtxt:7:5", "input[1].name", "model input 'x' is specified more than once for other"),
        (
            "m/config.pbtxt:7:48",
            "input[1].reshape",
            "model input 'x' has different size for dims and reshape for other",
        ),
        ("m/config.pbtxt:9:49", "output[0].label_filename", "'labels.txt' is missing in the model directory"),
        (
            "m/config.pbtxt:10:49",
            "output[1].label_filename",
            "'label_filename' must name a file within the model directory for other",
        ),
        (
            "m/config.pbtxt:11:20",
            "dynamic_batching.preferred_batch_size",
            "dynamic batching preferred size must be <= max batch size for other",
        ),
        (
            "m/config.pbtxt:12:33",
            "instance_group[0].gpus",
            "instance group other_0 of model other has kind KIND_CPU but specifies one or more GPUs",
        ),
        (
            "m/config.pbtxt:12:41",
            "instance_group[0].count",
            "instance group other_0 of model other has count 2000, the most is 1024",
        ),
    ]


def test_files_that_a_configuration_names(tmp_path):
    config = (
        "backend: 'python' default_model_filename: 'm.py' cc_model_filenames { key: '7.5' value: 'c.py' }\n"
        "version_policy { all {} }\n"
        "output { name: 'y' data_type: TYPE_FP32 dims: 4 label_filename: 'l' }\n"
        "model_warmup { inputs { key: 'x' value { data_type: TYPE_FP32 input_data_file: 'w' } } }\n"
        "sequence_batching { state { initial_state { data_file: 's' name: 'i' data_type: TYPE_FP32 dims: 1 }\n"
        "input_name: 'a' output_name: 'b' data_type: TYPE_FP32 dims: 1 } }\n"
    )
    add(tmp_path, "m", config, "1/m.py", "2/", "l/", "warmup/other")
    found = [(place, message) for place, _, message in told(tmp_path) if "not supported" not in message]
    assert found == [
        ("m/config.pbtxt:1:19", "'m.py' is missing in version 2"),
        ("m/config.pbtxt:1:50", "'c.py' is missing in version 1"),
        ("m/config.pbtxt:1:50", "'c.py' is missing in version 2"),
        ("m/config.pbtxt:3:49", "'l' is a directory in the model directory"),
        ("m/config.pbtxt:4:16", "'w' is missing in warmup"),
        ("m/config.pbtxt:5:45", "'s' is missing in initial_state"),
    ]


def test_versions(tmp_path):
    add(tmp_path, "m", IDENTITY, "01/", "v2/", "1.0/", "assets/", "configs/", f"{2**63}/", "3")
    text = "is not taken as a version: name it with a number below 2^63, without sign or leading zeros"
    assert told(tmp_path) == [
        ("m", None, "no version is available: there is no version directory"),
        ("m/01", None, text),
        ("m/1.0", None, text),
        ("m/3", None, "has the name of a version, but is not a directory"),
        (f"m/{2**63}", None, text),
        ("m/v2", None, text),
    ]
    policy = "version_policy { specific { versions: [ 1, 4 ] } }"
    other = tmp_path / "other"
    add(other, "m", IDENTITY + policy, "1/", "2/")
    add(other, "n", IDENTITY + policy, "2/")
    present = "is specified for model '{}', but the version directory is not present"
    assert [(place, message) for place, _, message in told(other)] == [
        ("m/config.pbtxt:3:29", f"version 4 {present.format('m')}"),
        ("n/config.pbtxt:3:1", "at least one version must be available under the version policy of model 'n'"),
        ("n/config.pbtxt:3:29", f"version 1 {present.format('n')}"),
        ("n/config.pbtxt:3:29", f"version 4 {present.format('n')}"),
    ]


def test_backends_are_named_and_not_imported(tmp_path):
    add(tmp_path, "a", "backend: 'nix'\n" + IO)
    add(tmp_path, "b", IO, "1/weights")
    add(tmp_path, "c", None, "1/model.py")
    (tmp_path / "c/1/model.py").unlink()
    add(tmp_path, "c", "backend: 'python'")
    found = told(tmp_path)
    assert [place for place, _, _ in found] == ["a/config.pbtxt:1:1", "b/config.pbtxt", "c/config.pbtxt"]
    assert found[0][2].startswith("unable to find backend 'nix': installed are identity")
    assert found[1][2].startswith("Invalid model name: Could not determine backend for model 'b'")
    assert found[2][2] == "'model.py' is missing in version 1"


def test_what_a_backend_may_complete_is_not_judged(tmp_path):
    config = "dynamic_batching { preferred_batch_size: 4 } batch_input { data_type: TYPE_FP32 source_input: 'x' }"
    faults = [
        "dynamic batching preferred size must be <= max batch size for m",
        "unknown source input name 'x' for m",
    ]

    def messages(options=OPTIONS):
        return [message for _, _, message in told(tmp_path, options=options) if "not supported" not in message]

    add(tmp_path, "m", config, "1/model.onnx")
    assert messages() == []
    assert messages(CheckOptions(OPTIONS.backends, auto_complete=False)) == faults
    (tmp_path / "m/1/model.onnx").rename(tmp_path / "m/1/model.py")  # which has no hook
    assert messages() == faults
    (tmp_path / "m/1/model.py").write_text("def auto_complete_config(config): ...")
    assert messages() == []


def test_padding_is_judged_once_the_tensors_are_known(tmp_path):
    config = "parameters { key: 'padding.tokens.%s' value { string_value: '%s' } } "
    add(tmp_path, "m", "max_batch_size: 8 " + config % ("inputs", "x"), "1/model.onnx")
    no_rule = "parameter 'padding.tokens.buckets' must say to which lengths requests are padded"
    [(place, path, message)] = told(tmp_path)  # whether there is an 'x' the model will tell
    assert (place, path, message[: len(no_rule)]) == ("m/config.pbtxt:1:19", "parameters", no_rule)
    add(tmp_path, "n", IDENTITY + config % ("bucket", "16"))
    assert [message for place, _, message in told(tmp_path) if place.startswith("n/")] == [
        "parameter 'padding.tokens.bucket' is unknown; did you mean 'buckets'? for n",
    ]


def test_repositories(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    add(one, "m", IDENTITY)
    add(two, "m", IDENTITY)
    add(two, "n\n", IDENTITY)
    (two / "gone").symlink_to("nowhere")
    (tmp_path / "empty").mkdir()
    found = [
        (one.file, one.message)
        for one in check([one, two, tmp_path / "empty", tmp_path / "nix", one / "m"], OPTIONS).findings
    ]
    duplicate = "model appears in two or more repositories; also "
    assert (
        found
        == [
            (f"{tmp_path}/empty", "holds no model directory"),
            (f"{tmp_path}/nix", "can not be read: No such file or directory"),
            (f"{one}/m", duplicate + f"{two}/m"),
            (f"{one}/m", f"is a model, not a repository; give {one} instead"),
            (f"{two}", "invalid model name 'n\\n', model name must not contain control characters"),
            (f"{two}/gone", "can not be read: No such file or directory"),
            (f"{two}/m", duplicate + f"{one}/m"),
        ]
        or found
    )


def test_ensembles_are_held_against_their_parts(tmp_path):
    step = "step {{ model_name: '{}' input_map {{ key: 'x' value: 'x' }} output_map {{ key: 'y' value: 'y' }} }}"
    text = "platform: 'ensemble' max_batch_size: 16\n" + IO + "ensemble_scheduling {\n"
    add(tmp_path, "small", text + step.format("part") + "}")
    add(tmp_path, "absent", text + step.format("nix") + "}")
    add(tmp_path, "unread", text + step.format("broken") + "}")
    add(tmp_path, "part", IDENTITY)
    add(tmp_path, "broken", "input {")
    found = [(place, message) for place, _, message in told(tmp_path) if "not supported" not in message]
    assert found == [
        ("absent/config.pbtxt:3:1", "ensemble absent contains models that are not available or ambiguous: nix"),
        ("broken/config.pbtxt:1:7", 'Expected "}".'),
        (
            "small/config.pbtxt:4:8",
            (
                "ensemble small allows maximum batch size 16, but it contains model part which only allows maximum "
                "batch size to be 8"
            ),
        ),
    ]


def test_configurations_by_name(tmp_path):
    add(tmp_path, "m", IDENTITY, "1/", "configs/")
    (tmp_path / "m/configs/big.pbtxt").write_text(IDENTITY + "max_batch: 1")
    (tmp_path / "m/configs/small.pbtxt").write_text(IDENTITY)
    fault = (
        "m/configs/big.pbtxt:3:1",
        "max_batch",
        "ModelConfig has no field 'max_batch'; did you mean 'max_batch_size'?",
    )
    assert told(tmp_path) == [fault]
    for name, expected in (("big", [fault]), ("small", []), ("absent", [])):
        assert told(tmp_path, options=CheckOptions(OPTIONS.backends, model_config_name=name)) == expected


def test_what_can_not_be_read(tmp_path):
    add(tmp_path, "a", None, "config.pbtxt/", "1/model.py")
    add(tmp_path, "b", IDENTITY)
    (tmp_path / "b/config.pbtxt").write_bytes(b"name: '\xff'")
    assert [(place, message) for place, _, message in told(tmp_path)] == [
        ("a/config.pbtxt", "can not be read: Is a directory"),
        ("b/config.pbtxt:1:8", "not UTF-8 text"),
    ]


# The command


def run(*arguments):
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, "-m", "pyinfer", "config", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )


def test_command(tmp_path):
    add(tmp_path, "good", IDENTITY)
    answer = run("check", str(tmp_path))
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "1 model checked, 0 problems found\n", "")
    add(tmp_path, "bad", IDENTITY + "dims: 1")
    answer = run("check", str(tmp_path))
    assert answer.returncode == 1
    assert answer.stdout == (
        f"{tmp_path}/bad/config.pbtxt:3:1: dims: ModelConfig has no field 'dims'\n2 models checked, 1 problem found\n"
    )
    answer = run("check", "--format=json", str(tmp_path))
    assert answer.returncode == 1
    assert json.loads(answer.stdout) == {
        "models": 2,
        "problems": [
            {
                "model": "bad",
                "file": f"{tmp_path}/bad/config.pbtxt",
                "message": "ModelConfig has no field 'dims'",
                "line": 3,
                "column": 1,
                "field": "dims",
            }
        ],
    }


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["check"], "pyinfer config check: nothing to check: give the directory of a model repository\n"),
        (["check", "--format=xml", "x"], "pyinfer config check: option '--format' got 'xml': expected text or json\n"),
        (["check", "--formt=text", "x"], "pyinfer config check: unknown option '--formt'; did you mean '--format'?\n"),
        (
            ["check", "s3://bucket/models"],
            "pyinfer config check: 's3://bucket/models' is no directory; copy the repository to one first\n",
        ),
        (["show"], "pyinfer config: the only command is 'pyinfer config check DIR...'\n"),
    ],
)
def test_command_line_errors(arguments, text):
    answer = run(*arguments)
    assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", text)


def test_command_help():
    answer = run("check", "--help")
    assert answer.returncode == 0
    assert "--format text|json" in answer.stdout


def test_no_backend_and_no_core_is_imported(tmp_path):
    add(tmp_path, "a", None, "1/model.onnx")
    add(tmp_path, "b", None, "1/model.py")
    code = (
        "import sys; from pyinfer.cli import main; status = main(['config', 'check', sys.argv[1]]);"
        "heavy = {'numpy', 'onnxruntime', 'pyinfer._core', 'pyinfer.backends.python', 'uvloop', 'asyncio'};"
        "print(status, sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.splitlines()[-1] == "0 []"


def test_the_example_repository_is_sound(repository_root: Path):
    report = check([repository_root / "model_repository"], OPTIONS)
    assert report.models > 0
    assert [str(one) for one in report.findings if "is missing" not in one.message] == []
