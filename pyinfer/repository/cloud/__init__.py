# SPDX-License-Identifier: Apache-2.0
"""Object stores: URLs, credentials, listing and reading, and the cache of what was read.

:mod:`pyinfer.repository.storage` makes a model repository of them. ``store`` is the only module that touches
``obstore``, and imports it when a store is opened.
"""

__all__: list[str] = []
