# SPDX-License-Identifier: Apache-2.0
"""Headers of the rounds stream."""

from __future__ import annotations

import msgpack
import pytest

from qcosd.qec.stream import Block, child_path

BLOCK = Block(batch=3, path="k0=1", shots=13, fragment=2, slot=5, round=20, rec_start=480, m=(24, 24), last=True)


def test_a_block_survives_the_wire() -> None:
    assert Block.from_map(msgpack.unpackb(msgpack.packb(BLOCK.to_map()))) == BLOCK


def test_unknown_fields_are_ignored_and_missing_ones_named() -> None:
    assert Block.from_map({**BLOCK.to_map(), "future": 1}) == BLOCK
    header = BLOCK.to_map()
    del header["round"]
    with pytest.raises(ValueError, match="round"):
        Block.from_map(header)


def test_paths_name_their_decisions() -> None:
    assert child_path(child_path("", 0, 1), 7, 0) == "k0=1/k7=0"
