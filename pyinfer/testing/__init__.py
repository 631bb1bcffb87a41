# SPDX-License-Identifier: Apache-2.0
"""What tests of models, clients and of pyinfer itself are made with. Public: semantic versioning holds for it.

* :func:`load_model`: a model in this process, for unit tests of its ``model.py``; ``breakpoint()`` works.
* :func:`run_server`: a real server in a process of its own, on free ports.
* :class:`Puppet`: a model under the real scheduler that executes nothing until told, on a clock that you move.
* :class:`FakeServer`: a server with known delays, stalls and errors, to test what measures servers.
* :class:`FaultProxy`: a TCP proxy that delays, throttles, cuts and resets.
* :class:`ManualClock`: that clock.
"""

from __future__ import annotations

from pyinfer._core import ManualClock
from pyinfer.testing.fake_server import FakeServer
from pyinfer.testing.local import Answer, AnswerStream, InferError, InferOptions, LocalModel, load_model
from pyinfer.testing.proxy import FaultProxy
from pyinfer.testing.puppet import Puppet, PuppetAnswer
from pyinfer.testing.server import RunningServer, run_server

__all__ = [
    "Answer",
    "AnswerStream",
    "FakeServer",
    "FaultProxy",
    "InferError",
    "InferOptions",
    "LocalModel",
    "ManualClock",
    "Puppet",
    "PuppetAnswer",
    "RunningServer",
    "load_model",
    "run_server",
]
