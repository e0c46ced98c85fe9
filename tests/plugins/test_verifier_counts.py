# SPDX-License-Identifier: Apache-2.0
"""Counts of a batch, with some shots shown: right ones pass, whatever the noise, and each way to lie about them is found."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import Any

import msgpack
import numpy as np
import pytest
from logical_programs import conditional, idle, measure, op, program
from loopback import Run, run
from qcos_plugins.matching_tracker.audit import SHOTS, audit, sampled
from qcos_plugins.surface_code.prepare import prepare
from qcos_plugins.verifier.audit import Decoding, WrongStream
from qcos_plugins.verifier.batch import check_batch
from qcos_plugins.verifier.counts import VOLATILE, check_summary, check_totals
from qcos_plugins.verifier.finding import Wrong
from qcos_plugins.verifier.lattice import lattice

from qcosd.qec.calibration import Calibration
from qcosd.qec.circuit import whole_circuit
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.placement import Placement
from qcosd.sdk.testing import make_lease

PROGRAMS = {
    "bell": program(2, 2, op("h", 0), op("cx", 0, 1), measure(0, 0), measure(1, 1)),
    "flip": program(1, 1, op("h", 0), op("s", 0), op("s", 0), op("h", 0), op("x", 0), idle(2, 0), measure(0, 0)),
    "again": program(1, 2, op("h", 0), measure(0, 0), op("h", 0), measure(0, 0), measure(0, 1)),
    "pauli": program(2, 2, op("h", 0), measure(0, 0), conditional((0,), "==", 1, op("x", 1)), measure(1, 1)),
    "branch": program(
        2, 2, op("h", 0), measure(0, 0), conditional((0,), "==", 1, op("h", 1), op("s", 1), op("h", 1)), measure(1, 1)
    ),
}


@cache
def fragments(name: str) -> FragmentProgram:
    return prepare(PROGRAMS[name], 3)


@cache
def ran(name: str, p: float, shots: int = 96, prior: float | None = None) -> Run:
    rates = Calibration.uniform(p)
    given = rates.floored() if prior is None else Calibration.uniform(prior)
    return run(fragments(name), rates, given, shots, seed=3, keep_shots=SHOTS)


def document(done: Run) -> dict[str, Any]:
    """What the plugin writes."""
    return {**done.outcomes.summary()["sum"], "audit": audit(done.outcomes)}


def examined(name: str, made: dict[str, Any], p: float, shots: int = 96, **options: Any) -> dict[str, Any]:
    inputs = {
        "fragments": fragments(name).to_bytes(),
        "calibration": Calibration.uniform(p).floored().to_bytes(),
        "placement": Placement.of("default", (0, 0), [(0, 0)]).to_bytes(),
        "counts": msgpack.packb(made),
    }
    return check_batch(make_lease("verify.counts", inputs, options, shots=shots, seed=7))


def refused(name: str, made: dict[str, Any], p: float, words: str, shots: int = 96) -> None:
    with pytest.raises(Wrong, match=words):
        examined(name, made, p, shots)


# ---- right ones


@pytest.mark.parametrize("p", [0.0, 0.001, 0.004])
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_the_tracker_says_passes(name, p):
    facts = examined(name, document(ran(name, p)), p)
    assert facts["audited"] == SHOTS
    assert facts["different"] <= (0 if not p else 4)


def test_both_decodings_agree_over_many_shots():
    different = total = 0
    for seed in range(8):
        rates = Calibration.uniform(0.003)
        done = run(fragments("bell"), rates, rates, SHOTS, seed=seed, keep_shots=SHOTS)
        facts = examined("bell", document(done), 0.003, SHOTS)
        different, total = different + facts["different"], total + facts["audited"]
    assert total == 256 and different < 13


def test_a_wrong_prior_of_the_client_is_nobodys_fault():
    made = document(ran("bell", 0.012, prior=0.001))
    assert examined("bell", made, 0.001, noise=0.012, prior=0.001)["audited"] == SHOTS


def test_too_much_noise_is_said():
    made = document(ran("bell", 0.03))
    assert "too noisy" in examined("bell", made, 0.03)["skipped"][0]


def test_counts_without_shown_shots_are_checked_by_their_totals():
    made = document(ran("bell", 0.001))
    del made["audit"]
    assert "none were shown" in examined("bell", made, 0.001)["skipped"][0]
    refused("bell", {**made, "shots_accepted": 95}, 0.001, "the batch has 96")


def test_the_artifact_may_leave_out_what_is_no_part_of_the_result_and_nothing_else():
    summary = {"sum": {"counts": {"0": 1}, **{key: {"1": 1} for key in VOLATILE}}}
    check_summary({"counts": {"0": 1}}, summary)
    check_summary(summary["sum"], summary)
    for wrong in ({}, {"counts": {"0": 1}, "latency_us": {"2": 1}}):
        with pytest.raises(Wrong, match="something else"):
            check_summary(wrong, summary)


def test_a_path_that_is_too_large_is_said(monkeypatch):
    monkeypatch.setattr("qcos_plugins.verifier.audit.MOST_DETECTORS", 10)
    monkeypatch.setattr("qcos_plugins.verifier.batch._kept", OrderedDict())
    assert "detectors" in examined("bell", document(ran("bell", 0.001)), 0.001)["skipped"][0]


def test_the_circuit_is_the_one_that_others_write():
    """Two ways from fragments to stim, made by different hands: the same records, detectors and parities, and errors."""
    for name in ("bell", "flip", "branch"):
        rates = Calibration.uniform(0.01)
        mine = lattice(fragments(name), (), rates, shorten=False)
        other = whole_circuit(fragments(name), rates, conditional=False)
        assert mine.records - len(mine.hidden) == other.measurements
        assert mine.detectors == len(other.detectors)
        assert [len(entry.parity.records) for entry in mine.written] == [len(bit.records) for bit in other.bits]


# ---- wrong ones


def test_totals():
    made = document(ran("bell", 0.001))
    key = next(iter(made["counts"]))
    more = {**made["counts"], key: made["counts"][key] + 1}
    refused("bell", {**made, "counts": more}, 0.001, "add up to 97")
    refused("bell", {**made, "shots_accepted": 90, "shots_discarded": 6}, 0.001, "add up to 96, 90")
    refused("bell", {**made, "shots_discarded": 1}, 0.001, "the batch has 96")
    refused("bell", {**made, "counts": {**made["counts"], key: 0}}, 0.001, "no table")
    refused("bell", {**made, "detection_events": made["detectors_total"] + 1}, 0.001, "more detection events")
    refused("bell", {**made, "audit": [{"shots": 1}]}, 0.001, "cannot be read")
    for wrong in ("0", "000", "0 1", "0a", ""):
        refused("bell", {**made, "counts": {wrong: 96}}, 0.001, "does not have the form")
    with pytest.raises(Wrong, match=r"cannot be read|no map"):
        examined_bytes(b"\x91")


def examined_bytes(data: bytes) -> None:
    inputs = {"fragments": fragments("bell").to_bytes(), "calibration": b"", "placement": b"", "counts": data}
    check_batch(make_lease("verify.counts", inputs, {}, shots=1))


def test_registers_of_no_bits():
    check_totals(
        {"shots_accepted": 4, "shots_discarded": 0, "counts": {"": 4}, "counts_undecoded": {"": 4}, "detection_events": 0, "detectors_total": 0},
        (),
        4,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["bell", "flip", "pauli"])
def test_undecoded_counts(name):
    made = document(ran(name, 0.002))
    shown = [{**row, "outcomes": row["undecoded"]} for row in made["audit"]]
    refused(
        name, {**made, "counts": made["counts_undecoded"], "audit": shown}, 0.002, "come out otherwise|does not fit"
    )


def test_undecoded_counts_beside_honest_shots():
    done = ran("flip", 0.002, 256)
    made = document(done)
    wrong = {**made, "counts": made["counts_undecoded"]}
    refused("flip", wrong, 0.002, "of its counts are impossible|as bad as undecoded", 256)


def test_shots_that_are_not_in_the_table():
    made = document(ran("bell", 0.0))
    refused("bell", {**made, "counts": {"01": 96}}, 0.0, "audited shots have outcome")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("outcomes", "come out otherwise|does not fit|does not follow|audited shots have outcome"),
        ("frames", "does not fit|come out otherwise"),
        ("undecoded", "do not follow"),
    ],
)
def test_shown_shots_that_were_changed(part, words):
    made = document(ran("flip", 0.001))
    (row,) = made["audit"]
    turned = bytes(byte ^ 1 for byte in row[part])
    refused("flip", {**made, "audit": [{**row, part: turned}]}, 0.001, words)


def test_a_path_that_its_shots_do_not_take():
    made = document(ran("branch", 0.0))
    assert len(made["audit"]) == 2
    one, two = made["audit"]
    crossed = [{**one, "outcomes": two["outcomes"][: one["shots"]].ljust(one["shots"], b"\0")}, two]
    refused("branch", {**made, "audit": crossed}, 0.0, "another path|does not fit")
    with pytest.raises(Wrong, match="does not exist"):
        examined("branch", {**made, "audit": [{**one, "decisions": [0, 0]}, two]}, 0.0)


def test_records_that_no_machine_gives_are_the_fault_of_the_stream():
    made = document(ran("bell", 0.001))
    loud = {**made, "detection_events": made["detectors_total"] // 2}
    with pytest.raises(WrongStream, match=r"50\.0% of its detectors fire"):
        examined("bell", loud, 0.001)
    # Also when the client has chosen the prior: no prior is as wrong as that.
    with pytest.raises(WrongStream):
        examined("bell", loud, 0.001, prior=0.001, noise=0.004)
    # A machine that loses records is another matter.
    assert examined("bell", {**loud, "records_missing": 5}, 0.001)


def test_the_predicted_rate_is_the_one_that_is_seen():
    for name in ("bell", "flip"):
        done = ran(name, 0.004, 512)
        seen = done.outcomes.detection_events / done.outcomes.detectors_total
        predicted = Decoding(fragments(name), (), Calibration.uniform(0.004), (0, 0)).rate
        assert abs(seen / predicted - 1) < 0.1


# ---- what is shown


def test_shots_are_shown_of_few_batches():
    assert [batch for batch in range(40) if sampled(batch)] == [0, 1, 2, 4, 8, 16, 32]
    assert not sampled(None)


def test_shown_shots_are_those_of_kept_records():
    """The few columns that are kept for the audit hold what keeping everything holds."""
    rates = Calibration.uniform(0.004)
    few, whole = (
        run(fragments("branch"), rates, rates, 96, seed=3, **how) for how in ({"keep_shots": SHOTS}, {"records": True})
    )
    assert audit(few.outcomes) == audit(whole.outcomes)
    assert sum(row["shots"] for row in audit(few.outcomes)) == SHOTS
    assert all(rows.shape[1] <= SHOTS // 8 for rows in few.outcomes.records.values())


def test_shots_with_missing_records_are_not_shown():
    done = run(
        fragments("bell"), Calibration.uniform(0.001), Calibration.uniform(0.001), 64, seed=5, keep_shots=SHOTS,
        machine={"erasure": 0.002},
    )  # fmt: skip
    shown = sum(row["shots"] for row in audit(done.outcomes))
    assert 0 < shown < SHOTS
    made = document(done)
    assert made["records_missing"] and examined("bell", made, 0.001, 64)["audited"] == shown
    assert np.all([row["shots"] for row in made["audit"]])
