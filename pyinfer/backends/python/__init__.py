# SPDX-License-Identifier: Apache-2.0
"""The ``python`` backend: ``model.py`` with a class ``TritonPythonModel``, run in processes or on the server's threads.

``selection`` chooses between the two. ``backend`` loads and runs models, in the server or in a ``worker`` process;
``process`` looks after those processes, ``launch`` and ``environment`` start them, ``channel`` is how they talk: by
``server_link`` a worker asks, ``questions`` answers in the server. ``metric_registry`` has the metrics of all models.
``imports`` keeps the helper modules of models apart, ``utils`` is what a model
imports as ``triton_python_backend_utils``, and ``_objects`` holds the compiled objects that exist once per request.
"""

from __future__ import annotations

from pyinfer.backends.python.selection import PythonBackend

__all__ = ["PythonBackend"]
