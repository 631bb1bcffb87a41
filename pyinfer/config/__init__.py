# SPDX-License-Identifier: Apache-2.0
"""What the operator asks for: the command line (``options``) and the configuration of each model (all else).

A model configuration travels as plain data in Triton's JSON form (snake_case, integers as numbers, enums by name)::

    pbtxt.parse -> pbtxt.to_json -> complete.complete -> normalize.normalize -> validate.validate

Nothing is imported here, so that ``pyinfer.config.options`` costs no protobuf.
"""

__all__ = []
