# SPDX-License-Identifier: Apache-2.0
"""The benches behind every performance number of pyinfer.

``python -m perf run`` measures and writes JSON to ``perf/results/``, ``python -m perf render`` turns the JSON into
``docs/perf/`` and the table of ``README.md``, ``python -m perf check`` compares it with the goals. Every server is a
child process that is measured from outside. The load is made by the engine of ``pyinfer perf``, which is all that is
imported of the package, but for the benches of parts of the core.
"""

__all__ = ()
