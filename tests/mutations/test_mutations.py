# SPDX-License-Identifier: Apache-2.0
"""The list of deliberate bugs is up to date. `tools/mutation-check` tries them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _tool():
    path = ROOT / "tools" / "mutation_check.py"
    spec = importlib.util.spec_from_file_location("mutation_check", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutation_check"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


TOOL = _tool()
MUTATIONS = TOOL.mutations()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_each_bug_can_still_be_made(mutation) -> None:
    changed = mutation.applied((ROOT / mutation.file).read_text("utf-8"))
    compile(changed, mutation.file, "exec")
    for test in mutation.tests:
        assert (ROOT / test.split("::")[0]).exists(), test


def test_there_are_twenty_of_them_in_every_part_of_the_path() -> None:
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS) >= 20
    for part in ("plugins/surface_code/", "plugins/stim_adapter/", "plugins/matching_tracker/"):
        assert sum(m.file.startswith(part) for m in MUTATIONS) >= 5, part


def test_the_document_is_current() -> None:
    assert (ROOT / "docs" / "MUTATIONS.md").read_text("utf-8") == TOOL.document(), "run tools/mutation-check --document"


def test_a_source_that_is_gone_or_stands_twice_is_told() -> None:
    mutation = TOOL.Mutation("name", "file", "a", "b", "what", ())
    assert mutation.applied("xay") == "xby"
    for text in ("xyz", "aa"):
        with pytest.raises(ValueError, match="once expected"):
            mutation.applied(text)
