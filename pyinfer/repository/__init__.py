# SPDX-License-Identifier: Apache-2.0
"""Model repositories: what is on disk, what should be loaded, and which versions are in which state.

``scan`` looks at repositories (``storage``: those on object stores), ``plan`` decides (purely), ``manager`` performs.
How a model is loaded is handed in (:mod:`pyinfer.repository.contract`); nothing here knows a backend, the core or a
protocol.
"""

__all__: list[str] = []
