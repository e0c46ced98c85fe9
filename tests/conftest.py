# SPDX-License-Identifier: Apache-2.0
"""Campaigns (marker `long`) run only when they are asked for by name: `-m long`, as .ci/run does."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" in config.getoption("markexpr"):
        return
    campaigns = [item for item in items if item.get_closest_marker("long")]
    if campaigns:
        config.hook.pytest_deselected(items=campaigns)
        items[:] = [item for item in items if item not in campaigns]
