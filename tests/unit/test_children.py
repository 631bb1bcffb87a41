# SPDX-License-Identifier: Apache-2.0
"""Children, for whoever may be interrupted at any time."""

from __future__ import annotations

import subprocess
import sys

from pyinfer.children import has_ended, wait_for_end


def test_the_end_is_seen_also_where_the_lock_of_the_child_was_left_taken() -> None:
    program = "import sys; sys.stdin.read(); sys.exit(3)"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert not has_ended(process)
        assert not wait_for_end(process, 0)
        lock = process._waitpid_lock  # type: ignore[attr-defined]
        with lock:
            process.stdin.close()
            assert wait_for_end(process, 60)
        assert process.wait() == 3
        assert has_ended(process)
