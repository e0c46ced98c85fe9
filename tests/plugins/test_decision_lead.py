# SPDX-License-Identifier: Apache-2.0
"""The decision of a T gate may be given more time than it needs."""

from __future__ import annotations

import oracle
import pytest
from loopback import run
from qcos_plugins.surface_code.prepare import prepare
from qcos_plugins.verifier.fragments import check_fragments
from test_universal import logical

TEXT = "h t h tdg h m"


@pytest.mark.parametrize(("lead", "blocks"), [(0, 0), (1, 1), (3, 1), (4, 2), (7, 3)])
def test_it_is_needed_so_many_rounds_later_in_whole_blocks(lead: int, blocks: int) -> None:
    (fragment,) = prepare(logical(TEXT), 3, lead=lead).fragments
    first, second = (slot for slot, _ in fragment.choices)
    assert first == 6 + 3 * blocks
    assert second == 18 + 2 * 3 * blocks


def test_the_program_is_the_same() -> None:
    program = prepare(logical(TEXT), 3, lead=3)
    assert "skipped" not in check_fragments(logical(TEXT), program, 3)
    done = run(program, shots=1024, seed=2)
    oracle.check_counts(done.counts, oracle.distribution(oracle.from_logical(logical(TEXT))))
