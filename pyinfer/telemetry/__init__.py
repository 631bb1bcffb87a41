# SPDX-License-Identifier: Apache-2.0
"""What the server tells about itself: metrics and log lines. Reads counters, never keeps one of its own."""

__all__: list[str] = []
