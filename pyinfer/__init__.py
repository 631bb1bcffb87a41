# SPDX-License-Identifier: Apache-2.0
"""pyinfer: a model server that speaks Triton's protocols. Holds only the version: importing it costs nothing."""

__all__ = ["__version__"]

__version__ = "0.1.0"
