# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf tune``: searches the configuration of a model that serves a given load best.

``space`` says what is tried, ``goal`` what is better, ``hosts`` where a configuration is served, ``search`` measures,
``state`` remembers, ``recommend`` explains, ``command`` is the command line.
"""

__all__: list[str] = []
