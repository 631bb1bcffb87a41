# SPDX-License-Identifier: Apache-2.0
"""The benches behind every performance number of pyinfer.

``python -m perf run`` measures and writes JSON to ``perf/results/``, ``python -m perf render`` turns the JSON into
``docs/perf/README.md``, ``python -m perf check`` compares it with the goals. No server code lives here, and nothing of
``pyinfer`` is imported: every server is a child process that is measured from outside.
"""

__all__ = ()
