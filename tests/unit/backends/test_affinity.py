# SPDX-License-Identifier: Apache-2.0
"""Which texts of models show that nothing in them depends on the thread."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

from pyinfer.backends.python.affinity import minds_its_thread

needs_numpy_2 = pytest.mark.skipif(
    int(np.__version__.partition(".")[0]) < 2, reason="what numpy.errstate sets belongs to the thread before NumPy 2"
)


def text(code: str) -> bytes:
    return textwrap.dedent(code).encode()


@needs_numpy_2
def test_arithmetic_on_arrays_minds_none() -> None:
    assert not minds_its_thread(
        text(
            '''
            """Doubles."""
            from __future__ import annotations
            import json, math
            from collections import deque
            import numpy as np
            from numpy.linalg import norm
            import triton_python_backend_utils as pb_utils

            class TritonPythonModel:
                def initialize(self, args):
                    self.config = json.loads(args["model_config"])
                    self.seen = deque(maxlen=8)

                def execute(self, requests):
                    import re
                    re.compile("x")
                    with np.errstate(all="ignore"):
                        call = pb_utils.InferenceRequest(model_name="m", requested_output_names=["O"], inputs=[])
                        return [call.exec() for request in requests]
            '''
        )
    )


@pytest.mark.parametrize(
    "code",
    [
        "import sqlite3",
        "import json, threading",
        "import numpy.ctypeslib",
        "import concurrent.futures as json",
        "def execute(self):\n    import torch",
        "from torch import no_grad",
        "from . import helper",
        "from .helper import work",
        "from json import *",
        "from time import thread_time",
        "import collections.abc, os.path",
        "from dataclasses import sys",
        "__import__('sqlite3')",
        "exec('import sqlite3')",
        "run = exec",
        "eval('1')",
        "globals()['__builtins__']",
        "import json\njson.codecs.sys",
        "import dataclasses\ndataclasses.sys.modules['threading']",
        "import time\ntime.thread_time_ns()",
        "import numpy as np\nnp.ctypeslib.load_library('x', '.')",
        "import numpy as np\ngetattr(np, 'ctypes' + 'lib')",
        "import json\njson.loads.__globals__",
        "import json\njson.__dict__",
    ],
)
def test_what_could_keep_something_with_its_thread(code: str) -> None:
    assert minds_its_thread(code.encode())


@pytest.mark.parametrize("source", [b"def execute(", b"\xff\xfe\x00", b"x = '\x00'", b"(" * 100_000])
def test_what_is_no_program_is_not_believed(source: bytes) -> None:
    assert minds_its_thread(source)


def test_before_numpy_2_errstate_belongs_to_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "__version__", "1.26.4")
    assert minds_its_thread(b"import numpy as np")
    assert not minds_its_thread(b"import json")
