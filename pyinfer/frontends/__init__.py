# SPDX-License-Identifier: Apache-2.0
"""The protocols that pyinfer speaks: sockets on one side, the core and :class:`pyinfer.service.Service` on the other.

Nothing here knows models on disk, backends or the scheduler.
"""

from __future__ import annotations

__all__ = []
