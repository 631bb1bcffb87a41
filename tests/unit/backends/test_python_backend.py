# SPDX-License-Identifier: Apache-2.0
"""``model.py`` is loaded, run, and its mistakes become answers; batches are fakes, everything else is real."""

from __future__ import annotations

import gc
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyinfer.backends.base import Instance, InstanceContext, ModelContext
from pyinfer.backends.python.backend import InProcessBackend
from pyinfer.errors import ConfigError, ModelError
from unit.backends.fake_batch import FakeBatch

ECHO = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                array = pb_utils.get_input_tensor_by_name(request, "A").as_numpy()
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("B", array)]))
            return responses
"""
EXECUTE = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            {}
"""
PREFIX = "Failed to process the request(s) for model 'm_0', message: "

Load = Callable[..., Instance]


def write(directory: Path, source: str, name: str = "model.py") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(textwrap.dedent(source))


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Loads a model from source and makes one instance of it."""
    backends: list[InProcessBackend] = []
    instances: list[Instance] = []

    def _load(source: str, config: dict[str, Any] | None = None, *, name: str = "m", **files: str) -> Instance:
        directory = tmp_path / name
        write(directory / "1", source)
        for helper, text in files.items():
            write(directory / "1", text, f"{helper}.py")
        backends.append(InProcessBackend(ModelContext(name, 1, directory, config or {})))
        instances.append(backends[-1].make_instance(InstanceContext(f"{name}_0")))
        return instances[-1]

    yield _load
    for made in (*instances, *backends):
        made.close()


def row(*values: float) -> dict[str, np.ndarray[Any, Any]]:
    return {"A": np.array([values], dtype=np.float32)}


def test_echo(load: Load) -> None:
    batch = FakeBatch(row(1, 2), row(3, 4))
    load(ECHO).execute(batch)
    assert [batch.answers[index]["B"][1].tolist() for index in (0, 1)] == [[[1, 2]], [[3, 4]]]
    assert batch.answers[0]["B"][0] == "FP32"


def test_inputs_belong_to_the_model(load: Load) -> None:
    source = ECHO.replace(".as_numpy()\n", ".as_numpy()\n                array += 1\n")
    sent = row(1, 2)
    batch = FakeBatch(sent)
    load(source).execute(batch)
    assert batch.answers[0]["B"][1].tolist() == [[2, 3]]
    assert sent["A"].tolist() == [[2, 3]]  # the very memory that came, not a copy


def test_request_shows_what_came(load: Load) -> None:
    source = EXECUTE.format(
        """
            import json
            (request,) = requests
            texts = [request.request_id(), request.parameters(), ",".join(request.requested_output_names()),
                     ",".join(t.name() for t in request.inputs()), str(request.correlation_id()),
                     str(request.flags()), str(request.timeout()), str(request.is_cancelled())]
            out = pb_utils.Tensor("B", __import__("numpy").array(texts, dtype=object))
            return [pb_utils.InferenceResponse([out], parameters={"n": 1})]
        """
    )
    batch = FakeBatch(row(1), outputs=["B"], parameters={"k": 2})
    load(source).execute(batch)
    datatype, array = batch.answers[0]["B"]
    assert datatype == "BYTES"
    assert array.tolist() == [b"id0", b'{"k": 2}', b"B", b"A", b"7", b"1", b"90", b"False"]
    assert batch.response_parameters == {"n": 1}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return None", "Expected a list in the execute return, found type '<class 'NoneType'>'."),
        ("return (1,)", "Expected a list in the execute return, found type '<class 'tuple'>'."),
        (
            "return []",
            (
                "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
                "InferenceRequest(s) size is:2, and InferenceResponse(s) size is:0\n"
            ),
        ),
        (
            "return [None, None]",
            (
                "Expected an 'InferenceResponse' object in the execute function return list, found type "
                "'<class 'NoneType'>'."
            ),
        ),
        (
            "return [pb_utils.InferenceResponse([]), {}]",
            "Expected an 'InferenceResponse' object in the execute function return list, found type '<class 'dict'>'.",
        ),
        ("raise KeyError('lost')", "KeyError: 'lost'"),
        ("raise pb_utils.TritonModelException('mine')", "TritonModelException: mine"),
        ("open('/etc/pyinfer/absent.bin')", "FileNotFoundError: [Errno 2] No such file or directory: 'absent.bin'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (
            "pb_utils.InferenceRequest(model_name='m').exec()",
            "TritonModelException: a model can call another one only inside the server, from a thread of it",
        ),
        (
            "return [pb_utils.InferenceResponse(['text'])] * 2",
            "TritonModelException: output_tensors must be Tensor objects, found type 'str'",
        ),
    ],
)
def test_mistakes_fail_all_requests(load: Load, body: str, expected: str) -> None:
    batch = FakeBatch(row(1), row(2))
    load(EXECUTE.format(body)).execute(batch)
    assert batch.answers == {0: ("INTERNAL", PREFIX + expected), 1: ("INTERNAL", PREFIX + expected)}


def test_errors_of_single_responses(load: Load) -> None:
    body = (
        "return [pb_utils.InferenceResponse(error=pb_utils.TritonError('no', pb_utils.TritonError.INVALID_ARG)),"
        " pb_utils.InferenceResponse([pb_utils.Tensor('B', requests[1].inputs()[0].as_numpy())])]"
    )
    batch = FakeBatch(row(1), row(2))
    load(EXECUTE.format(body)).execute(batch)
    assert batch.answers[0] == ("INVALID_ARG", "no")
    assert batch.answers[1]["B"][1].tolist() == [[2]]


def test_text_that_can_not_be_sent_fails_its_request_only(load: Load) -> None:
    body = (
        "import numpy as np; return [pb_utils.InferenceResponse([pb_utils.Tensor('B', np.array([t], dtype=object))])"
        " for t in ('\\udc80', 'ok')]"
    )
    batch = FakeBatch(row(1), row(2))
    load(EXECUTE.format(body)).execute(batch)
    assert batch.answers[0][0] == "INTERNAL" and "UnicodeEncodeError" in batch.answers[0][1]
    assert batch.answers[1]["B"][1].tolist() == [b"ok"]


def test_requests_end_with_their_batch(load: Load) -> None:
    source = """
        import triton_python_backend_utils as pb_utils
        kept = []
        class TritonPythonModel:
            def execute(self, requests):
                kept.append((requests[0], requests[0].inputs()[0]))
                del requests[:]
                return [pb_utils.InferenceResponse([])]
    """
    instance = load(source)
    batch = FakeBatch(row(1))
    instance.execute(batch)
    (module,) = [m for name, m in sys.modules.items() if name.startswith("pyinfer_model_m_1")]
    request, tensor = module.kept[0]
    assert tensor.as_numpy().tolist() == [[1]]
    for late in (request.request_id, lambda: request.input("B"), request.parameters):
        with pytest.raises(Exception, match="after it was answered"):
            late()
    references = gc.get_referrers(batch)
    assert not any(holder is request for holder in references)


def test_lifecycle_and_arguments(load: Load, tmp_path: Path) -> None:
    source = """
        import json
        import triton_python_backend_utils as pb_utils
        events = []
        class TritonPythonModel:
            def initialize(self, args):
                assert all(type(value) is str for value in args.values())
                events.append((args, json.loads(args["model_config"])))
            def execute(self, requests):
                return []
            def finalize(self):
                events.append("finalized")
    """
    config = {"name": "m", "max_batch_size": 3}
    write(tmp_path / "m" / "1", source)
    backend = InProcessBackend(ModelContext("m", 1, tmp_path / "m", config))
    instance = backend.make_instance(InstanceContext("m_0_0"))
    (module,) = [m for name, m in sys.modules.items() if name.startswith("pyinfer_model_m_1")]
    args, parsed = module.events[0]
    assert parsed == config
    assert {key: args[key] for key in args if key != "model_config"} == {
        "model_instance_kind": "CPU",
        "model_instance_name": "m_0_0",
        "model_instance_device_id": "0",
        "model_repository": str(tmp_path / "m"),
        "model_version": "1",
        "model_name": "m",
    }
    instance.close()
    assert module.events[-1] == "finalized"
    backend.close()
    assert module.__name__ not in sys.modules and str(tmp_path / "m" / "1") not in sys.path


@pytest.mark.parametrize(
    ("source", "config", "expected"),
    [
        ("def f(:", {}, "m/1/model.py can not be imported: SyntaxError: invalid syntax"),
        ("import absent_module", {}, "m/1/model.py can not be imported: ModuleNotFoundError: No module named"),
        ("raise SystemExit", {}, "m/1/model.py can not be imported: SystemExit"),
        ("x = 1", {}, "m/1/model.py has no class 'TritonPythonModel'"),
        ("class TritonPythonModel: pass", {}, "has no method 'execute'"),
        (
            "class TritonPythonModel:\n    def execute(self, r): ...\n    def initialize(self, args): 1 / 0",
            {},
            "model instance 'm_0': ZeroDivisionError: division by zero",
        ),
        ("", {"default_model_filename": "other.py"}, "model 'm' has no file m/1/other.py"),
    ],
)
def test_load_errors(load: Load, tmp_path: Path, source: str, config: dict[str, Any], expected: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(source, config)
    assert expected in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


NAMED = """
    import triton_python_backend_utils as pb_utils
    import numpy as np
    import helper

    class TritonPythonModel:
        def initialize(self, args):
            import later
            self.text = helper.NAME + later.NAME
        def execute(self, requests):
            import lazily
            text = np.array([self.text + lazily.NAME], dtype=object)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("B", text)])]
"""


def test_helpers_of_models_are_kept_apart(load: Load) -> None:
    first = load(NAMED, name="a", helper="NAME = 'A'", later="NAME = 'a'", lazily="NAME = '.'")
    second = load(NAMED, name="b", helper="NAME = 'B'", later="NAME = 'b'")
    for instance, expected in ((first, b"Aa."), (second, b"Bb."), (first, b"Aa.")):
        batch = FakeBatch(row(1))
        instance.execute(batch)
        assert batch.answers[0]["B"][1].tolist() == [expected]


def test_reload_reads_the_new_files(load: Load) -> None:
    def answer(instance: Instance) -> bytes:
        batch = FakeBatch(row(1))
        instance.execute(batch)
        return bytes(batch.answers[0]["B"][1][0])

    old = load(NAMED, helper="NAME = 'old'", later="NAME = '1'", lazily="NAME = '.'")
    assert answer(old) == b"old1."
    new = load(NAMED, helper="NAME = 'newer'", later="NAME = '22'", lazily="NAME = '.'")
    assert answer(new) == b"newer22." and answer(old) == b"old1."


COMPLETING = """
    class TritonPythonModel:
        @staticmethod
        def auto_complete_config(auto_complete_model_config):
            auto_complete_model_config.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": [4]})
            auto_complete_model_config.add_output({"name": "B", "data_type": "TYPE_FP32", "dims": [4]})
            auto_complete_model_config.set_max_batch_size(8)
            auto_complete_model_config.set_dynamic_batching()
            return auto_complete_model_config
        def execute(self, requests):
            return []
"""


def test_auto_complete(tmp_path: Path) -> None:
    directory = tmp_path / "m"
    write(directory / "1", COMPLETING)
    completed = InProcessBackend.auto_complete(directory, {"backend": "python"}, {})
    assert completed == {
        "backend": "python",
        "max_batch_size": 8,
        "input": [{"name": "A", "data_type": "TYPE_FP32", "dims": [4]}],
        "output": [{"name": "B", "data_type": "TYPE_FP32", "dims": [4]}],
        "dynamic_batching": {},
    }
    assert not [name for name in sys.modules if name.startswith("pyinfer_model_m_1")]
    with pytest.raises(ConfigError, match="max_batch_size 16"):
        InProcessBackend.auto_complete(directory, {"max_batch_size": 16}, {})


def test_auto_complete_needs_a_hook_and_its_result(tmp_path: Path) -> None:
    directory = tmp_path / "m"
    directory.mkdir()
    assert InProcessBackend.auto_complete(directory, {"a": 1}, {}) == {"a": 1}
    write(directory / "1", "raise RuntimeError('must not be imported')")
    assert InProcessBackend.auto_complete(directory, {"a": 1}, {}) == {"a": 1}
    write(directory / "1", COMPLETING.replace("return auto_complete_model_config", "return None"))
    with pytest.raises(ModelError, match="must return the ModelConfig object, found type 'NoneType'"):
        InProcessBackend.auto_complete(directory, {}, {})
    write(directory / "1", COMPLETING.replace("return auto_complete_model_config", "raise OSError('/x/y/z')"))
    with pytest.raises(ModelError, match="auto_complete_config of model 'm' failed: OSError: z"):
        InProcessBackend.auto_complete(directory, {}, {})
