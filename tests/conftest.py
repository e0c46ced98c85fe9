# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests.

Campaigns (marker `long`) run only when they are asked for by name: `-m long`, as .ci/run does.  Ctrl-C is tested, and a
shell that starts the tests in the background makes them and all their children deaf to it.
"""

from __future__ import annotations

import signal

import pytest


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" in config.getoption("markexpr"):
        return
    campaigns = [item for item in items if item.get_closest_marker("long")]
    if campaigns:
        config.hook.pytest_deselected(items=campaigns)
        items[:] = [item for item in items if item not in campaigns]
