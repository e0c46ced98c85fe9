# SPDX-License-Identifier: Apache-2.0
"""Programs with T gates: right ones pass every check, each kind of wrong one is refused with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import oracle
import pytest
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_optimise.optimiser import optimised
from qcos_plugins.surface_code.prepare import prepare
from qcos_plugins.verifier.finding import Wrong
from qcos_plugins.verifier.fragments import check_fragments
from qcos_plugins.verifier.logical import check_logical, check_optimised
from test_universal import logical, written

from qcosd.qec.fragment import Choose, Event, FragmentProgram, Frame, Handover, Merge
from qcosd.qec.program import Condition, LogicalProgram, Op

TEXT = "h t h tdg h m"
HEADER = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'


def changed(program: FragmentProgram, change: Callable[[Any], list[Event]]) -> FragmentProgram:
    """Each event replaced by some."""

    def of(fragment: Any) -> Any:
        slots = (
            slot._replace(events=tuple(e for event in slot.events for e in change(event))) for slot in fragment.slots
        )
        return replace(fragment, slots=tuple(slots))

    return replace(program, fragments=tuple(map(of, program.fragments)))


def conditional(event: Event) -> bool:
    return isinstance(event, Frame) and event.condition is not None


def on(kind: type, change: Callable[[Any], Event | None], which: Callable[[Any], bool] = lambda event: True) -> Any:
    def one(event: Event) -> list[Event]:
        if not isinstance(event, kind) or not which(event):
            return [event]
        made = change(event)
        return [] if made is None else [made]

    return one


def condition(event: Any, value: int) -> Condition:
    return Condition(event.condition.bits, "==", value)


MISTAKES: dict[str, tuple[Callable[[Any], list[Event]], str]] = {
    "no Z where both are 1": (on(Frame, lambda e: None, conditional), "rules out"),
    "the Z under another condition": (
        on(Frame, lambda e: e._replace(condition=condition(e, e.condition.value ^ 2)), conditional),
        "rules out",
    ),
    "the Z whatever was chosen": (
        on(Frame, lambda e: e._replace(condition=Condition(e.condition.bits[1:], "==", 1)), conditional),
        "rules out",
    ),
    "T for its inverse": (on(Choose, lambda e: e._replace(condition=condition(e, 1 - e.condition.value))), "inverse"),
    "a decision that is always the same": (
        on(Choose, lambda e: e._replace(condition=Condition(e.condition.bits, ">=", 0))),
        "always the same",
    ),
    "one decision twice": (on(Choose, lambda e: e._replace(k=0)), "made twice"),
    "a decision from another bit": (
        on(Choose, lambda e: e._replace(condition=Condition((e.bit,), "==", 1))),
        "from no parity of a T gate",
    ),
    "no decision": (on(Choose, lambda e: None), "does not exist"),
    "a result that is written": (on(Choose, lambda e: e._replace(bit=0)), "no scratch bit"),
    "a parity that is not kept": (on(Merge, lambda e: e._replace(bit=-1)), "no part of a T gate"),
    "another gate's decision": (
        on(Handover, lambda e: e._replace(choice=1 - e.choice), lambda e: e.choice >= 0),
        "is told as",
    ),
    "a forgotten byproduct": (on(Frame, lambda e: None, lambda e: bool(e.tags)), "rules out"),
    "a byproduct of the other kind": (on(Frame, lambda e: e._replace(pauli="X"), lambda e: bool(e.tags)), "rules out"),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_gadget_is_refused(name: str, seed: int) -> None:
    change, text = MISTAKES[name]
    with pytest.raises(Wrong, match=text):
        check_fragments(logical(TEXT), changed(written(TEXT), change), 3, seed)


def test_decisions_that_are_exchanged_are_refused() -> None:
    """Two gates at the same time, each of which waits for the other one's decision, in instructions and events alike."""
    text = "h:0 h:1 t:0 t:1 h:0 h:1 m:0 m:1"
    program = written(text, 2)
    assert {slot for slot, _ in program.fragments[0].choices} == {6}
    program = changed(program, on(Handover, lambda e: e._replace(choice=1 - e.choice), lambda e: e.choice >= 0))

    def of(fragment: Any) -> Any:
        slots = [
            slot._replace(parts=tuple(p._replace(choice=1 - p.choice) if p.choice >= 0 else p for p in slot.parts))
            for slot in fragment.slots
        ]
        return replace(fragment, slots=tuple(slots))

    exchanged = replace(program, fragments=tuple(map(of, program.fragments)))
    with pytest.raises(Wrong, match="belongs to no T gate"):
        check_fragments(logical(text, 2), exchanged, 3)


def test_a_hand_over_before_its_window_has_a_buffer_is_refused() -> None:
    """Some rounds between the two hand-overs are left out."""
    program = written("h t h m", distance=5)
    (fragment,) = program.fragments
    waiting = next(i for i, (_, repeats) in enumerate(fragment.timeline) if repeats == 4 and i > 2)
    timeline = list(fragment.timeline)
    timeline[waiting] = (timeline[waiting][0], 2)
    early = replace(program, fragments=(replace(fragment, timeline=tuple(timeline)),))
    with pytest.raises(Wrong, match="before the window that settles it is decoded"):
        check_fragments(logical("h t h m"), early, 5)


WRONG_PROGRAMS = [
    ("h t h m", "h tdg h m"),
    ("h t m", "h m"),
    ("h m", "h t m"),
    ("h t h t h m", "h t h h m"),
    ("h:0 h:1 t:0 m:0 m:1", "h:0 h:1 t:1 m:0 m:1"),
]


@pytest.mark.parametrize(("meant", "done"), WRONG_PROGRAMS)
def test_another_program_is_refused(meant: str, done: str) -> None:
    qubits = 2 if ":" in meant else 1
    with pytest.raises(Wrong):
        check_fragments(logical(meant, qubits), written(done, qubits), 3)


@pytest.mark.parametrize("text", ["h t h m", TEXT, "h:0 t:0 cx:01 tdg:1 h:1 s:1 h:0 m:0 m:1"])
def test_right_fragments_pass_at_their_distance(text: str) -> None:
    qubits = 2 if ":" in text else 1
    found = check_fragments(logical(text, qubits), written(text, qubits), 3)
    assert found["distance"] == 3
    assert "skipped" not in found


def test_a_branch_with_a_t_gate_in_it_passes() -> None:
    source = b"qreg q[1]; creg c[1]; h q[0]; measure q[0] -> c[0]; if (c == 1) t q[0]; h q[0]; measure q[0] -> c[0];"
    program, _ = compile_source(HEADER.encode() + source)
    found = check_fragments(program, prepare(program, 3), 3)
    assert found["paths"] == 2


# ---- programs against their source, and against one another

BODIES = [
    "qreg q[3]; creg c[3]; ccx q[0],q[1],q[2]; measure q -> c;",
    "qreg q[1]; creg c[1]; rz(0.3) q[0]; h q[0]; measure q -> c;",
    "qreg q[3]; creg c[3]; h q[0]; cu1(pi/2) q[1],q[0]; cu1(pi/8) q[2],q[0]; h q[1]; measure q -> c;",
    "qreg q[1]; creg c[1]; t q[0]; h q[0]; measure q -> c; if (c==1) t q[0]; h q[0]; measure q -> c;",
    "qreg q[2]; creg c[2]; h q[0]; t q[0]; h q[0]; measure q[0] -> c[0]; reset q[0]; if(c==1) rx(0.2) q[1]; t q[0]; measure q -> c;",
]


@pytest.mark.parametrize("body", BODIES)
def test_a_source_and_its_program_are_the_same_and_one_wrong_t_gate_is_found(body: str) -> None:
    source = (HEADER + body).encode()
    program, facts = compile_source(source, 1e-3)
    found = check_logical(source, program, 0, 1e-3)
    assert "skipped" not in found
    assert ("within" in found) == ("approximated" in facts)
    place = Random(body).choice([i for i, op in enumerate(program.ops) if op.kind in ("t", "tdg")])
    with pytest.raises(Wrong, match="does not do what its source says"):
        check_logical(source, inverted(program, place), 0, 1e-3)


def inverted(program: LogicalProgram, place: int) -> LogicalProgram:
    op = program.ops[place]
    other = replace(op, kind="tdg" if op.kind == "t" else "t")
    ops: tuple[Op, ...] = (*program.ops[:place], other, *program.ops[place + 1 :])
    return replace(program, ops=ops)


@pytest.mark.parametrize("seed", range(8))
def test_an_optimised_program_is_the_same_and_a_wrong_one_is_found(seed: int) -> None:
    circuit = oracle.mirrored(seed, 1 + seed % 3, 6, ("t", "tdg", "h", "s", "t"))
    half = circuit.gates[: len(circuit.gates) // 2]
    program = LogicalProgram(
        (("q", circuit.qubits),), (("c", circuit.qubits),), tuple(Op(g.name, g.qubits, 1) for g in half)
    )
    better, _ = optimised(program, lambda: False)
    assert "skipped" not in check_optimised(program, better)
    gates = [i for i, op in enumerate(better.ops) if op.kind in ("t", "tdg")]
    if gates:
        with pytest.raises(Wrong):
            check_optimised(program, inverted(better, gates[0]))
