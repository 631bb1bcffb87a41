# SPDX-License-Identifier: Apache-2.0
"""``python -m pyinfer``: the same as the command ``pyinfer``."""

import sys

from pyinfer.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
