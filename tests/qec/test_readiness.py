# SPDX-License-Identifier: Apache-2.0
"""Whether a machine can run a placed program, and which artifact is wrong if it cannot."""

from __future__ import annotations

from hashlib import sha256

import msgpack
import pytest

from qcosd.qec.device import Device
from qcosd.qec.fragment import Decision, Fragment, FragmentProgram, Instruction, Part, Slot
from qcosd.qec.geometry import Coord
from qcosd.qec.placement import Placement
from qcosd.qec.program import Condition
from qcosd.qec.readiness import Loaded, NotReady, Ready, check

SITES = ((0, 0), (1, 1), (2, 2))
ROUND = (
    Instruction("R", ((1, 1),)),
    Instruction("CX", ((0, 0), (1, 1), (1, 1), (2, 2))),
    Instruction("TICK"),
    Instruction("M", ((1, 1),)),
)


def slot(*instructions: Instruction) -> Slot:
    return Slot((Part((0,), 5, instructions),), (), ())


def fragment(
    index: int, *slots: Slot, then: tuple[int, int] | None = None, repeats: int = 1, name: int | None = None
) -> Fragment:
    decision = None if then is None else Decision(0, Condition((0,), "==", 1), *then)
    timeline = tuple((i, repeats) for i in range(len(slots)))
    return Fragment(index if name is None else name, (), slots, timeline, decision)


def program(*fragments: Fragment) -> FragmentProgram:
    return FragmentProgram(3, 1, (("c", 1),), fragments)


def placed(*sites: Coord, offset: Coord = (2, 4)) -> Placement:
    return Placement.of("default", offset, sites or SITES)


ONE = program(fragment(0, slot(*ROUND)))


def test_what_can_run_is_counted() -> None:
    assert check(ONE, placed(), Device()) == (3, 1, 1)
    tree = program(
        fragment(0, slot(*ROUND), then=(1, 2)),
        fragment(1, slot(*ROUND), repeats=5),
        fragment(2, slot(*ROUND), repeats=2, then=(1, 3)),
        fragment(3),
    )
    assert check(tree, placed(), Device()) == (3, 1 + 2 + 5, 3)


def test_many_decisions_are_counted_without_walking_every_path() -> None:
    chain = [fragment(i, slot(*ROUND), then=(i + 1, i + 1)) for i in range(20_000)]
    ready = Ready("a", "b", *check(program(*chain, fragment(20_000)), placed(), Device()))
    assert ready.paths == 2**20_000
    assert Ready.from_bytes(ready.to_bytes()) == ready


@pytest.mark.parametrize(
    ("made", "kind", "message"),
    [
        ((ONE, Placement.of("other", (0, 0), SITES), Device()), "placement", "is for device other, this is default"),
        ((ONE, placed((0, 0), (1, 1)), Device()), "placement", r"no living site of default for \[2, 2\]"),
        ((ONE, placed(offset=(-2, 0)), Device()), "placement", r"no living site .* \[0, 0\]"),
        ((ONE, placed(), Device(dead=frozenset({(3, 5)}))), "placement", r"no living site .* \[1, 1\]"),
        ((ONE, placed(), Device(width=4, height=9)), "placement", r"no living site .* \[2, 2\]"),
    ],
)
def test_a_placement_that_does_not_fit_is_named(
    made: tuple[FragmentProgram, Placement, Device], kind: str, message: str
) -> None:
    with pytest.raises(NotReady, match=message) as caught:
        check(*made)
    assert caught.value.kind == kind


MOVE = Instruction("PERM", ((1, 1), (3, 3)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (program(fragment(0, slot(Instruction("CX", ((0, 0), (2, 2)))))), "does not couple"),
        (program(fragment(0, slot(Instruction("CX", ((0, 0), (1, 1), (2, 2)))))), "odd number of targets"),
        (program(fragment(0, slot(Instruction("T", ((0, 0),))))), "no instruction 'T'"),
        (program(fragment(0, slot(*ROUND, Instruction("H", ((1, 1),))))), r"H on \[1, 1\], which was measured"),
        (program(fragment(0, slot(*ROUND[1:]), repeats=2)), r"CX on \[1, 1\], which was measured"),
        (program(fragment(0, slot(*ROUND), slot(*ROUND[1:]))), r"CX on \[1, 1\], which was measured"),
        (
            program(fragment(0, slot(*ROUND), then=(2, 1)), fragment(1), fragment(2, slot(*ROUND[3:]))),
            r"M on \[1, 1\], which was measured",
        ),
        (program(fragment(0, slot(*ROUND, MOVE, Instruction("I", ((3, 3),))))), r"I on \[3, 3\], which was measured"),
        (program(fragment(0, then=(0, 1)), fragment(1)), "fragment 0 leads back to itself"),
        (program(fragment(0, then=(1, 1)), fragment(1, then=(0, 1))), "leads back to itself"),
        (program(fragment(0, then=(1, 5)), fragment(1)), "there is no fragment 5"),
        (program(fragment(0, then=(1, 1)), fragment(1, name=7)), "there is no fragment 1"),
    ],
)
def test_fragments_that_no_machine_can_run_are_named(wrong: FragmentProgram, message: str) -> None:
    with pytest.raises(NotReady, match=message) as caught:
        check(wrong, placed(*SITES, (3, 3)), Device())
    assert caught.value.kind == "fragments"


def test_what_is_reset_may_be_used_and_what_moves_takes_its_state_along() -> None:
    check(program(fragment(0, slot(*ROUND), repeats=3)), placed(), Device())
    moved = slot(*ROUND, MOVE, Instruction("I", ((1, 1),)), Instruction("R", ((3, 3),)), Instruction("I", ((3, 3),)))
    check(program(fragment(0, moved)), placed(*SITES, (3, 3)), Device())
    with pytest.raises(NotReady, match="moves qubits"):
        check(program(fragment(0, moved)), placed(*SITES, (3, 3)), Device(movement=False))


# ---- what was read and checked is kept


class Store:
    """Artifacts of a lease, and what was asked for."""

    def __init__(self, **artifacts: bytes) -> None:
        self.artifacts = artifacts
        self.inputs = {kind: sha256(data).hexdigest() for kind, data in artifacts.items()}
        self.asked: list[str] = []

    def fetch(self, kind: str) -> bytes:
        self.asked.append(kind)
        return self.artifacts[kind]


def test_a_program_is_read_once_and_its_readiness_compared_each_time() -> None:
    loaded = Loaded(kept=1)
    first = Store(fragments=ONE.to_bytes(), placement=placed().to_bytes())
    made = loaded.load(first.inputs, first.fetch, Device())
    assert made[:2] == (ONE, placed())
    ready = made[2]
    assert (ready.fragments, ready.placement) == (first.inputs["fragments"], first.inputs["placement"])
    batch = Store(**first.artifacts, ready=ready.to_bytes())
    assert loaded.load(batch.inputs, batch.fetch, Device())[0] is made[0]
    assert batch.asked == ["ready"]
    other = Store(fragments=ONE.to_bytes(), placement=placed(offset=(0, 0)).to_bytes(), ready=ready.to_bytes())
    with pytest.raises(NotReady, match="not of this program") as caught:
        loaded.load(other.inputs, other.fetch, Device())
    assert caught.value.kind == "ready"
    assert loaded.load(first.inputs, first.fetch, Device())[0] is not made[0]  # one was kept


def test_another_device_is_checked_anew() -> None:
    loaded = Loaded()
    store = Store(fragments=ONE.to_bytes(), placement=placed().to_bytes())
    loaded.load(store.inputs, store.fetch, Device())
    with pytest.raises(NotReady, match="no living site"):
        loaded.load(store.inputs, store.fetch, Device(dead=frozenset({(3, 5)})))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xc1", msgpack.packb({"version": 1}), msgpack.packb({"version": 9})])
def test_other_bytes_are_no_ready_artifact(data: bytes) -> None:
    with pytest.raises(NotReady, match="ready artifact") as caught:
        Ready.from_bytes(data)
    assert caught.value.kind == "ready"
