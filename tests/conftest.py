# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests.

Campaigns (marker `long`) run only when they are asked for by name: `-m long`, as .ci/run does.  Ctrl-C is tested, and a
shell that starts the tests in the background makes them and all their children deaf to it.  What plugins keep in the user's
cache goes into a directory of its own, which all processes of a session share.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

import pytest

_CACHE = "CACHE_DIRECTORY"


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[_CACHE] = tempfile.mkdtemp(prefix="qcos-cache-")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(_CACHE), ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" in config.getoption("markexpr"):
        return
    campaigns = [item for item in items if item.get_closest_marker("long")]
    if campaigns:
        config.hook.pytest_deselected(items=campaigns)
        items[:] = [item for item in items if item not in campaigns]
