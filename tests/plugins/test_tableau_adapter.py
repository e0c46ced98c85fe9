# SPDX-License-Identifier: Apache-2.0
"""The second machine: circuits of slots, its own noise, shots, branches, losses, headers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import oracle
import pytest
import stim
from agreement import records
from loopback import OFFSET, PERFECT, device_noise, prepared, run, said
from qcos_plugins.surface_code.builder import Builder
from qcos_plugins.tableau_adapter.noise import Channel, Noise
from qcos_plugins.tableau_adapter.play import Play
from qcos_plugins.tableau_adapter.rounds import Translator
from qcos_plugins.tableau_adapter.shot import Shot
from test_stim_adapter import BRANCHES

from qcosd.qec.calibration import RATES, Calibration
from qcosd.qec.fragment import Fragment, FragmentProgram, Instruction, Part, Slot
from qcosd.qec.geometry import Coord
from qcosd.qec.hardware import Awaits, Batch, Said
from qcosd.qec.stream import Block, Discard

NOISY = Calibration.uniform(2e-3)


def one_slot(*instructions: Instruction) -> FragmentProgram:
    slot = Slot((Part((0,), 5, instructions),), (), ())
    return FragmentProgram(3, 1, (), (Fragment(0, (), (slot,), ((0, 1),)),))


def memory(rounds: int) -> FragmentProgram:
    b = Builder(3)
    b.init(0, (0, 0), "Z")
    b.idle(rounds)
    b.measure(0, "Z", 0)
    return b.program(bits=1)


def everything(
    program: FragmentProgram, noise: Calibration, shots: int, seed: int, **more: object
) -> list[Said | Awaits]:
    """All that the machine says, every decision answered by 0, 1, 0, 1, ..."""
    heard: list[Said | Awaits] = []
    stream = said("tableau_adapter", program, noise, shots, seed, **more)
    item = next(stream, None)
    while item is not None:
        heard.append(item)
        answer = None
        if isinstance(item, Awaits):
            answer = np.packbits(np.arange(item.shots) % 2, bitorder="little").tobytes()
        try:
            item = stream.send(answer)
        except StopIteration:
            break
    return heard


# ---- circuits


def circuit_of(*instructions: Instruction, noise: Noise | None = None) -> stim.Circuit:
    program = one_slot(*instructions)
    translator = Translator(program, noise or Noise(PERFECT))
    return translator.rounds(translator.slot(0, 0), translator.layout).circuit


A, B, C = (0, 0), (1, 1), (2, 0)  # qubits 0, 1, 2


def test_instructions_stand_as_they_are_and_all_else_is_ignored() -> None:
    circuit = circuit_of(
        Instruction("R", (A, C)),
        Instruction("RX", (B,)),
        Instruction("TICK"),
        Instruction("CX", (B, A, B, C)),
        Instruction("I", (A, C)),
        Instruction("MX", (B,)),
        Instruction("M", (C, A)),
    )
    assert circuit == stim.Circuit("R 0 2\nRX 1\nCX 1 0 1 2\nMX 1\nM 2 0")


def test_errors_stand_where_the_rates_say() -> None:
    rates = Calibration(0.01, 0.02, 0.03, 0.04, 0.05, 0.06)
    circuit = circuit_of(
        Instruction("R", (A,)),
        Instruction("RX", (B,)),
        Instruction("H", (A,)),
        Instruction("CX", (B, A)),
        Instruction("I", (A,)),
        Instruction("MX", (B,)),
        Instruction("M", (A,)),
        noise=Noise(rates, erasure=0.07),
    )
    assert circuit == stim.Circuit("""
        R 0
        X_ERROR(0.03) 0
        RX 1
        Z_ERROR(0.03) 1
        H 0
        DEPOLARIZE1(0.05) 0
        CX 1 0
        DEPOLARIZE2(0.02) 1 0
        DEPOLARIZE1(0.01) 0
        HERALDED_ERASE(0.07) 1
        Z_ERROR(0.04) 1
        MX 1
        HERALDED_ERASE(0.07) 0
        X_ERROR(0.04) 0
        M 0
    """)


def test_sites_and_couplers_have_rates_of_their_own_on_the_device() -> None:
    rates = Calibration(
        **dict.fromkeys(RATES, 0.01),
        sites={(2, 4): {"measure": 0.2, "cx": 0.03}, (3, 5): {"cx": 0.04}, (4, 4): {"measure": 0.0}},
        couplers={((3, 5), (4, 4)): 0.05},
    )
    noise = Noise(rates, offset=OFFSET)
    flips = list(noise.before("M", (A, C, (4, 0))))
    assert flips == [Channel("X_ERROR", 0.2, (A,)), Channel("X_ERROR", 0.01, ((4, 0),))]
    pairs = list(noise.after("CX", (B, A, C, B, (4, 0), (5, 1))))
    assert [(c.probability, c.sites) for c in pairs] == [(0.04, (B, A)), (0.05, (C, B)), (0.01, ((4, 0), (5, 1)))]
    assert not list(Noise(PERFECT, offset=OFFSET).before("M", (A,)))


def test_qubits_take_their_numbers_along_when_they_move() -> None:
    program = one_slot(Instruction("R", (A, C)), Instruction("PERM", (A, C, C, A)), Instruction("M", (A, C)))
    translator = Translator(program, Noise(PERFECT))
    slot = translator.slot(0, 0)
    rounds = translator.rounds(slot, translator.layout)
    assert rounds.circuit == stim.Circuit("R 0 1\nM 1 0")
    assert rounds.moves == {A: 1, C: 0}
    moved = translator.rounds(slot, translator.layout | rounds.moves)
    assert moved.circuit == stim.Circuit("R 1 0\nM 0 1")
    assert moved.moves == {A: 0, C: 1}
    assert translator.rounds(slot, translator.layout) is rounds  # kept


@pytest.mark.parametrize(
    ("instruction", "message"),
    [(Instruction("T", (A,)), "cannot do T"), (Instruction("PERM", (A, C)), "others do not leave")],
    ids=["unknown", "no permutation"],
)
def test_what_cannot_be_done_is_said(instruction: Instruction, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        circuit_of(Instruction("R", (A, C)), instruction)


@pytest.mark.parametrize("known_syndrome", ["any", "plus"])
def test_an_encoded_y_arrives(known_syndrome: str) -> None:
    """All plaquettes as they were told, and Y = i X Z is +1: on every shot, also the one that was set right."""
    b = Builder(3)
    b.handover(0, (0, 0))
    b.round()
    b.measure(0, "X", 0)
    program = b.program(bits=1)
    (part,) = program.fragments[0].slots[0].parts[:1]
    translator = Translator(program, Noise(PERFECT), known_syndrome)
    slot = Slot((part,), (), ())
    signs = []
    for seed in range(30):
        rounds = translator.struck(slot, translator.layout, ())
        simulator = stim.TableauSimulator(seed=seed)
        simulator.do(rounds.circuit)
        told = np.array(simulator.current_measurement_record())[rounds.records]
        centres = [site for site in part.instructions[0].targets if site[0] % 2]
        assert len(told) == len(centres) == 8
        for (x, y), sign in zip(centres, told, strict=True):
            corners = [(x + dx, y + dy) for dx in (-1, 1) for dy in (-1, 1)]
            data = [translator.layout[c] for c in corners if c in translator.layout and min(c) >= 0 and max(c) <= 4]
            pauli = "X" if (x + y) // 2 % 2 else "Z"
            assert simulator.peek_observable_expectation(product(dict.fromkeys(data, pauli))) == (-1) ** int(sign)
        row, column = [(0, 0), (2, 0), (4, 0)], [(0, 0), (0, 2), (0, 4)]
        logical = {translator.layout[s]: "X" for s in row} | {translator.layout[s]: "Z" for s in column}
        logical[translator.layout[0, 0]] = "Y"
        assert simulator.peek_observable_expectation(product(logical)) == 1
        signs.append(told)
    spread = np.array(signs).mean(0)
    x_type = np.array([(x + y) // 2 % 2 == 1 for x, y in centres])
    assert (spread[~x_type] > 0.1).all()
    assert (spread[~x_type] < 0.9).all()
    assert (spread[x_type] > 0.1).all() == (known_syndrome == "any")
    assert (spread[x_type] == 0).all() == (known_syndrome == "plus")


def product(paulis: dict[int, str]) -> stim.PauliString:
    out = stim.PauliString(max(paulis) + 1)
    for qubit, pauli in paulis.items():
        out[qubit] = pauli
    return out


# ---- shots


def test_a_shot_reads_what_is_new_and_stays_itself_when_it_moves_on() -> None:
    def bits(limit: int) -> list[list[int]]:
        shot = Shot(seed=3, number=1, record_limit=limit)
        shot.do(stim.Circuit("RX 0\nR 1\nCX 0 1\nM 0"))
        out = [shot.read(1).tolist()]
        for _ in range(4):
            shot.do(stim.Circuit("M 1 0"))
            out.append(shot.read(2).tolist())
        return out

    for limit in (0, 1000):
        (first,), *others = bits(limit)
        assert others == [[first, first]] * 4
    shot = Shot(seed=3, number=1)
    shot.do(stim.Circuit("M 0 1"))
    with pytest.raises(ValueError, match="measurements"):
        shot.read(1)


def test_moving_on_changes_no_distribution() -> None:
    circuit = oracle.random_circuit(9)
    done = run(prepared(circuit.qasm()), shots=600, seed=4, hardware="tableau_adapter", machine={"record_limit": 0})
    oracle.check_counts(done.counts, oracle.distribution(circuit), alpha=1e-5)
    assert done.outcomes.detection_events == 0


def test_shots_share_nothing() -> None:
    """The first shots of a large batch are those of a small one: nothing depends on the others."""
    program = memory(6)
    few = records("tableau_adapter", program, NOISY, 5, seed=1)
    many = records("tableau_adapter", program, NOISY, 40, seed=1)
    assert (many[:5] == few).all()
    assert len({row.tobytes() for row in many}) > 30  # eight random bits, and errors


def test_what_slots_mean_is_nothing_to_it() -> None:
    """Without events and detectors the same program gives the same records."""
    program = prepared(BRANCHES)
    bare = replace(
        program,
        fragments=tuple(
            replace(
                f,
                slots=tuple(
                    Slot(tuple(p._replace(patches=(0,), rank=0, detectors=()) for p in s.parts), (), ())
                    for s in f.slots
                ),
            )
            for f in program.fragments
        ),
    )
    assert bare != program
    assert everything(bare, NOISY, 20, 1) == everything(program, NOISY, 20, 1)


def test_equal_seeds_give_equal_bits() -> None:
    program = prepared(BRANCHES)
    options = {"erasure": 0.01, "lost": 0.05, "discard": 0.02}
    assert everything(program, NOISY, 40, 1) == everything(program, NOISY, 40, 1) != everything(program, NOISY, 40, 2)
    assert everything(program, NOISY, 40, 1, **options) == everything(program, NOISY, 40, 1, **options)


# ---- branches and headers


def test_decisions_select_what_each_shot_does_next() -> None:
    program = prepared(BRANCHES)
    done = run(program, shots=600, seed=1, hardware="tableau_adapter")
    paths = list(dict.fromkeys(block.path for block in done.blocks))
    assert paths == ["", "k0=0", "k0=0/k1=0", "k0=1", "k0=1/k1=0", "k0=1/k1=1"]
    assert sum(done.outcomes.paths.values()) == 600
    exact = {"0 0 00": 0.5, "1 0 01": 0.25, "1 1 10": 0.125, "1 1 11": 0.125}
    oracle.check_counts(done.counts, exact, alpha=1e-5)


def test_headers_are_those_of_the_other_machine() -> None:
    """Every header of every block, for decisions that do not depend on chance."""
    program = prepared(BRANCHES)

    def headers(hardware: str) -> list[Block]:
        heard = []
        stream = said(hardware, program, PERFECT, 9, 1, batch=7)
        item = next(stream)
        while True:
            answer = None
            if isinstance(item, Awaits):
                answer = np.packbits(np.arange(item.shots) % 2, bitorder="little").tobytes()
            else:
                heard.append(item.header)
            try:
                item = stream.send(answer)
            except StopIteration:
                return heard

    assert headers("tableau_adapter") == headers("stim_adapter")


@pytest.mark.parametrize("text", ["", "creg c[2]; x q[0]; barrier q;"])
def test_a_program_that_does_nothing_ends_with_nothing(text: str) -> None:
    program = prepared(f'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; {text}')
    done = run(program, NOISY, shots=20, hardware="tableau_adapter")
    assert sum(done.counts.values()) == 20
    assert [block.last for block in done.blocks] == [True]


def test_a_decision_is_demanded_in_full() -> None:
    program = prepared(BRANCHES)
    play = Play(Translator(program, Noise(PERFECT)), Batch(0, 9, 1)).run()
    while not isinstance(next(play), Awaits):
        pass
    with pytest.raises(ValueError, match="decision 0 needs 2 bytes"):
        play.send(b"\x00")


# ---- losses


def test_erasures_are_heralded_and_mixed() -> None:
    """What is heralded is a coin flip, whatever the qubit was; what is not is as it was."""
    program = memory(30)
    erasure = 0.05
    bits, erased = [], []
    for item in everything(program, PERFECT, 400, 1, erasure=erasure):
        assert isinstance(item, Said)
        assert item.header.payload == ("bits", "erasure")
        rows = sum(item.header.m)
        for frame, into in zip(item.frames, (bits, erased), strict=True):
            packed = np.frombuffer(frame, np.uint8).reshape(rows, -1)
            into.append(np.unpackbits(packed, axis=1, count=400, bitorder="little").astype(bool))
    read, gone = np.vstack(bits)[8:], np.vstack(erased)[8:]  # after the first round, which is random
    z_type = [i for i in range(len(read) - 9) if read[i][~gone[i]].mean() in (0.0, 1.0)]
    assert len(z_type) > 90  # Z plaquettes, read as 0 unless erased
    flips = np.concatenate([read[i][gone[i]] for i in z_type])
    assert abs(gone.mean() - erasure) < 5 * (erasure / gone.size) ** 0.5
    assert abs(flips.mean() - 0.5) < 5 * 0.5 / len(flips) ** 0.5


def test_lost_rounds_are_blocks_without_bits() -> None:
    program = memory(200)
    blocks = [item.header for item in everything(program, PERFECT, 3, 2, lost=0.2) if isinstance(item, Said)]
    status = Counter[str]()
    slot = record = time = 0
    for block in blocks:
        assert (block.slot, block.round, block.rec_start) == (slot, slot, record)
        assert (block.payload, block.status) in ((("bits",), "ok"), ((), "lost"))
        assert block.t_hw_ns > time
        slot, record, time = slot + len(block.m), record + sum(block.m), block.t_hw_ns
        status[block.status] += len(block.m)
    assert slot == 201
    assert 20 < status["lost"] < 60  # 40 expected
    assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]
    assert blocks[-1].status == "ok"  # a final read-out comes without a round


def test_a_shot_is_discarded_once() -> None:
    program = memory(60)
    shots = 64
    seen = np.zeros(shots, int)
    for item in everything(program, PERFECT, shots, 3, discard=0.05):
        if isinstance(item, Said) and isinstance(item.header, Discard):
            (mask,) = item.frames
            seen += np.unpackbits(np.frombuffer(mask, np.uint8), count=shots, bitorder="little")
            assert item.header.path == ""
    assert seen.max() == 1
    assert 25 < seen.sum() < 58  # 21 blocks: two thirds


@pytest.mark.slow
def test_what_is_left_after_losses_is_right() -> None:
    """Without errors, a Bell pair with erasures, lost rounds and discards: no accepted shot is wrong."""
    program = prepared(
        'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'
    )
    losses = {"erasure": 0.02, "lost": 0.1, "discard": 0.01}
    lost = 0
    for seed in range(8):
        done = run(program, shots=200, seed=seed, hardware="tableau_adapter", machine=losses).outcomes.summary()["sum"]
        assert set(done["counts"]) == {"00", "11"}
        assert sum(done["counts"].values()) == done["shots_accepted"]
        assert done["shots_accepted"] + done["shots_discarded"] == 200
        assert done["records_missing"] > 500
        assert 0 < done["discards"]["heralded"] < 50
        lost += done["rounds_lost"]
    assert lost > 0


def test_rates_of_a_device_are_those_of_the_test() -> None:
    site: dict[Coord, dict[str, float]] = {(2, 4): {"cx": 0.3}}
    rates = Calibration(**dict.fromkeys(RATES, 0.01), sites=site, couplers={((2, 4), (3, 5)): 0.02})
    found = device_noise(rates).rates()
    assert found.sites[2, 4]["cx"] == pytest.approx(0.3)
    assert found.couplers == pytest.approx(rates.couplers)
    assert found.idle == 0.01
