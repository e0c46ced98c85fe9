# SPDX-License-Identifier: Apache-2.0
"""From the kernel's job document to the public one and to text."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from qcosd import __version__
from qcosd.ctl import result


def finished_job(**changes: Any) -> dict[str, Any]:
    """A job document as the kernel keeps it at the end of a job with two batches."""
    return {
        "job": "7",
        "state": "done",
        "cause": "",
        "options": {"shots": 100, "distance": 5, "noise": 0.001, "prior": 0.002, "seed": 42, "target": "counts", "decoder": "pymatching"},
        "inputs": {"source": "aa"},
        "artifacts": {"source": "aa", "logical": "bb"},
        "facts": {
            "compile.compile": {"assumptions": ["qubits start in |0>"], "versions": {"pytket": "2.0"}},
            "optimise.optimise": {"assumptions": ["qubits start in |0>", "no budget"], "versions": {"pytket": "2.0"}},
            "qecc.prepare": {"distance": 3, "patches": 4},
        },
        "summary": {
            "same": {
                "registers": [["c", 2], ["d", 1]],
                "bit_order": "c[0] first",
                "decoder": "pymatching-correlated",
                "window": {"commit": 5, "buffer": 5},
                "detectors": 120,
                "calibration": "cal-1",
            },
            "sum": {
                "counts": {"11 0": 40, "00 1": 60},
                "counts_undecoded": {"11 0": 30, "00 1": 45, "01 0": 25},
                "detection_events": 999,
                "shots_accepted": 100,
                "shots_discarded": 2,
                "rounds_total": 1250,
                "latency_us": {"50": 98, "100": 1, "2000": 1},
                "lateness_us": {"1": 4},
                "stall_rounds": 7,
                "decode_us_per_round": {"busy_us": 50, "rounds": 8, "hardware_us": 200},
            },
            "min": {"rounds": 10},
            "max": {"rounds": 20},
        },
        "batches": {"done": 2, "total": 2},
        "restarts": 1,
        "degraded": [],
        "submitted": 1.0e9,
        "seconds": {"total": 3.5, "boot": 1.25, "execution": 2.25},
        "error": None,
    } | changes  # fmt: skip


PUBLIC_KEYS = {
    "job", "state", "shots", "counts", "counts_undecoded", "registers", "bit_order", "distance", "noise", "seed", "rounds",
    "window", "detectors", "detection_events", "decoder", "calibration", "assumptions", "shots_discarded", "shots_restarted",
    "stall_rounds", "latency_us", "restarts", "degraded", "reproducible", "versions", "seconds", "prior", "hardware",
    "shots_accepted", "discards", "records_missing", "rounds_lost", "rounds_late", "calibrations", "erasures", "verified",
}  # fmt: skip


def test_every_promised_key_is_there_in_any_state() -> None:
    for job in (finished_job(), finished_job(state="queued", facts={}, summary=None, seconds=None), {"job": "1"}):
        assert set(result.public_document(job)) >= PUBLIC_KEYS


def test_a_finished_job() -> None:
    public = result.public_document(finished_job())
    assert public["counts"] == {"00 1": 60, "11 0": 40}
    assert list(public["counts"]) == ["00 1", "11 0"]
    assert public["counts_undecoded"]["01 0"] == 25
    assert list(public["registers"].items()) == [("c", 2), ("d", 1)]
    assert public["rounds"] == {"min": 10, "mean": 12.5, "max": 20}
    assert public["distance"] == 3, "what was prepared, not what was asked for"
    assert public["decoder"] == "pymatching-correlated"
    assert public["assumptions"] == ["qubits start in |0>", "no budget"]
    assert public["latency_us"] == {"p50": 50, "p99": 100, "p999": 2000}
    assert public["lateness_us"] == {"p50": 1, "p99": 1, "p999": 1}
    assert (public["stall_rounds"], public["decode_us_per_round"], public["utilisation"]) == (7, 6.25, 0.25)
    assert public["versions"] == {"pytket": "2.0", "qcosd": __version__}
    assert public["reproducible"] is True
    assert public["shots_discarded"] == 2
    assert public["error"] is None
    json.dumps(public, allow_nan=False)


def test_rounds_are_one_number_where_all_shots_agree() -> None:
    summary = finished_job()["summary"] | {"min": {"rounds": 7}, "max": {"rounds": 7}}
    assert result.public_document(finished_job(summary=summary))["rounds"] == 7


def test_numbers_that_nobody_reported_are_null() -> None:
    public = result.public_document(finished_job(state="running", summary={}, facts={}))
    for key in (
        "counts",
        "counts_undecoded",
        "rounds",
        "window",
        "detectors",
        "detection_events",
        "latency_us",
        "lateness_us",
        "reaction_us",
        "decode_us_per_round",
        "utilisation",
    ):
        assert public[key] is None, key
    assert public["distance"] == 5


def test_components_that_disagree_on_a_version_are_not_reproducible() -> None:
    facts = {"a.a": {"versions": {"stim": "1.1"}}, "b.b": {"versions": {"stim": "1.2"}}}
    assert result.public_document(finished_job(facts=facts))["reproducible"] is False


def test_another_target_has_artifacts_and_no_shots() -> None:
    public = result.public_document(finished_job(options={"target": "greeted"}, artifacts={"greeted": "cc"}))
    assert public["target"] == "greeted"
    assert public["artifacts"] == {"greeted": "cc"}
    assert not {"counts", "shots", "rounds"} & set(public)
    assert "greeted  cc" in result.describe(public)


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ({}, None),
        ({"5": 0}, None),
        ({"5": 1}, {"p50": 5, "p99": 5, "p999": 5}),
        ({"10": 1, "2": 1}, {"p50": 2, "p99": 10, "p999": 10}),
        ({"2": 500, "20": 490, "200": 10}, {"p50": 2, "p99": 20, "p999": 200}),
        ({"2": 999, "inf": 1}, {"p50": 2, "p99": 2, "p999": 2}),
        ({"2": 989, "inf": 11}, {"p50": 2, "p99": None, "p999": None}),
        ({"0.5": 3}, {"p50": 0.5, "p99": 0.5, "p999": 0.5}),
    ],
)
def test_percentiles_are_upper_edges_of_buckets(buckets: dict[str, int], expected: dict[str, float] | None) -> None:
    assert result.latency_percentiles(buckets) == expected


def test_text_of_a_finished_job_shows_what_matters() -> None:
    text = result.describe(result.public_document(finished_job()))
    lines = text.splitlines()
    assert lines[0] == "job 7: done"
    assert "counts (c[0..1] d[0])" in text
    assert [line.split()[:3] for line in lines if line.startswith("  00 1")] == [["00", "1", "60"]]
    assert "60.0%" in text
    assert text.index("00 1") < text.index("11 0") < text.index("01 0"), "most frequent first"
    for part in ("seed 42", "discarded   2 shots", "distance 3", "min 10, mean 12.5, max 20", "commit 5, buffer 5", "p50 50 us", "boot 1.25 s", "restarts    1", "no budget"):  # fmt: skip
        assert part in text, part


def with_troubles() -> dict[str, Any]:
    """A job whose machine drifted and lost things."""
    job = finished_job(
        verified=["logical", "counts"], shots_restarted=7, plan={"providers": {"hardware.run": "tableau_adapter"}}
    )
    job["summary"]["same"]["erasures"] = "decoded"
    job["summary"]["sum"] |= {
        "discards": {"leakage": 1, "erased": 1}, "records_missing": 31, "rounds_lost": 2, "rounds_late": 0,
        "calibrations": {"cal-1": 64, "cal-2": 38},
    }  # fmt: skip
    return job


def test_what_the_machine_did_to_the_shots_is_told() -> None:
    public = result.public_document(with_troubles())
    assert public["discards"] == {"leakage": 1, "erased": 1}
    assert not any("lean" in word for word in public["degraded"])
    job = with_troubles()
    branching = {**job, "facts": {**job["facts"], "qecc.prepare": {"paths": 3}}}
    assert "2 shots were discarded from 3 paths: the counts lean" in result.public_document(branching)["degraded"][-1]
    assert (public["shots_accepted"], public["shots_restarted"], public["records_missing"]) == (100, 7, 31)
    assert (public["rounds_lost"], public["rounds_late"], public["erasures"]) == (2, 0, "decoded")
    assert public["calibrations"] == {"cal-1": 64, "cal-2": 38}
    assert public["hardware"] == "tableau_adapter"
    assert public["verified"] == ["logical", "counts"]
    text = result.describe(public)
    for line in (
        "discarded   2 shots (erased 1, leakage 1)",
        "restarted   7 shots",
        "missing     31 records, 2 rounds lost, missing records are decoded",
        "hardware    tableau_adapter",
        "calibrated  2 calibrations in 102 shots",
        "verified    logical, counts",
    ):
        assert line in text.splitlines(), line


@pytest.mark.parametrize(("accepted", "text"), [(299, "299 of 300, seed 7"), (300, "300, seed 7")])
def test_fewer_shots_than_asked_for_are_told(accepted: int, text: str) -> None:
    job = finished_job(options={"shots": 300, "seed": 7})
    job["summary"]["sum"]["shots_accepted"] = accepted
    assert f"shots       {text}" in result.describe(result.public_document(job)).splitlines()


def test_what_did_not_happen_is_not_told() -> None:
    job = finished_job()
    job["summary"]["sum"] |= {"shots_discarded": 0, "calibrations": {"cal-1": 100}}
    text = result.describe(result.public_document(job))
    for word in ("discarded", "restarted ", "missing", "calibrated", "verified", "hardware"):
        assert word not in text, word


@pytest.mark.parametrize(
    ("asked", "said", "used"), [(0.002, None, 0.002), (0.0, None, 1e-4), (0.0, 3e-3, 3e-3), (None, None, None)]
)
def test_the_prior_is_the_one_that_was_used(asked: float | None, said: float | None, used: float | None) -> None:
    facts = {"hardware.calibrate": {} if said is None else {"prior": said}}
    job = finished_job(options={"prior": asked}, facts=facts)
    assert result.public_document(job)["prior"] == used


def test_the_floor_is_that_of_the_calibration() -> None:
    from qcosd.qec.calibration import PRIOR_FLOOR

    assert result.PRIOR_FLOOR == PRIOR_FLOOR


def test_recorded_jobs_show_their_counts() -> None:
    job = finished_job()
    job["options"]["target"] = "records"
    assert result.public_document(job)["counts"] == {"00 1": 60, "11 0": 40}


def test_a_long_table_is_cut_and_says_so() -> None:
    summary = finished_job()["summary"]
    summary["sum"]["counts"] = {f"{i:05b}": 1 for i in range(32)}
    summary["sum"]["counts_undecoded"] = None
    assert "and 16 more outcomes" in result.describe(result.public_document(finished_job(summary=summary)))


def test_the_chain_of_an_error_is_told_with_its_counter_offer() -> None:
    error = {
        "code": 300,
        "name": "does_not_fit",
        "message": "needs 90 sites",
        "details": {"sites": 90, "distance": 3},
        "chain": [{"name": "hardware_fault", "message": "site 4 is dead"}, "earlier"],
    }
    text = result.describe_error(error)
    assert text.splitlines() == [
        "does_not_fit: needs 90 sites (sites 90, distance 3)",
        "  because hardware_fault: site 4 is dead",
        "  because earlier",
    ]
    public = result.public_document(finished_job(state="failed", error=error))
    assert public["error"] == error
    assert text in result.describe(public)


def test_text_never_fails_on_what_is_missing() -> None:
    for job in (
        {"job": "1"},
        finished_job(summary={}),
        finished_job(summary={"same": {}, "sum": {"counts": {"0": 1}}}),
    ):
        assert "nan" not in result.describe(result.public_document(job))
    assert not math.isnan(result.public_document(finished_job())["rounds"]["mean"])
