# SPDX-License-Identifier: Apache-2.0
"""What turns a model directory into something that executes batches.

:mod:`pyinfer.backends.base` is the contract and :mod:`pyinfer.backends.find` resolves a backend's name. The other
modules are backends; they are imported only when a model needs them, so this package imports nothing.
"""

__all__: list[str] = []
