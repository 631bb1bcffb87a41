# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf``: measures a server over the network, with perf_analyzer's flags. It does NOT import the server."""

__all__: list[str] = []
