# SPDX-License-Identifier: Apache-2.0
"""Decoders are admitted by what they do, and used through the same windows as matching."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import odd_decoders
import pytest
import sampled
from qcos_plugins.matching_tracker import offering
from qcos_plugins.matching_tracker.admission import ADMITTED, NOT_INSTALLED, REFUSED, Admissions
from qcos_plugins.matching_tracker.decoders import offers
from qcos_plugins.matching_tracker.tracker import Tracker

from qcosd.ctl.decoders import described
from qcosd.sdk import Refused
from qcosd.sdk.testing import make_lease


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Admissions:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return Admissions("odd_decoders")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("narrow", "come out wrong in a model of 246 observables"),
        ("blind", "single faults of a memory of distance 3 are mistaken"),
        ("moody", "decoded again come out differently"),
        ("short", "it answers with uint8 (278, 30) where uint8 (278, 31) is due"),
        ("wide", "it answers with bool"),
        ("raise", "OverflowError: too many observables"),
        ("crash", "it died of SIGSEGV when it was tried"),
        ("exit", "it gave no verdict when it was tried: giving up"),
    ],
)
def test_a_decoder_that_errs_or_breaks_is_refused_with_the_reason(odd: Admissions, name: str, reason: str) -> None:
    found = odd.of(name, odd_decoders.offers()[name])
    assert found.state == REFUSED
    assert reason in found.reason
    assert (found.us_per_shot, found.ratio) == (0, 0)


def test_a_decoder_that_hangs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    found = Admissions("odd_decoders", time_limit=3).of("hang", odd_decoders.offers()["hang"])
    assert (found.state, found.reason) == (REFUSED, "it had not passed after 3 s")


def test_a_decoder_that_only_talks_too_much_is_admitted(odd: Admissions) -> None:
    found = odd.of("chatter", odd_decoders.offers()["chatter"])
    assert (found.state, found.reason) == (ADMITTED, "")
    assert found.us_per_shot > 0
    assert found.ratio > 0


def test_what_is_not_installed_says_how_to_install_it(odd: Admissions) -> None:
    found = odd.of("absent", odd_decoders.offers()["absent"])
    assert (found.state, found.reason) == (NOT_INSTALLED, "pip install no-such-package")


@pytest.mark.long
def test_the_real_ones() -> None:
    states = {name: offering.admissions.of(name, offer) for name, offer in offers().items()}
    for name in ("pymatching", "pymatching-correlated", "pymatching-tempered", "fusion-blossom", "tesseract"):
        assert states[name].state == ADMITTED, states[name]
    assert {name for name, found in states.items() if found.erasures} == {
        "pymatching",
        "pymatching-correlated",
        "pymatching-tempered",
    }
    # Matching in two passes mistakes a few faults at distance 3, and says so.
    assert "single faults" in states["pymatching-correlated"].note
    assert states["pymatching-tempered"].note == states["pymatching"].note == ""
    # It wants coordinates that name colours, and windows have none.
    assert states["chromobius"].state in (REFUSED, NOT_INSTALLED)


def lease(**options: object) -> object:
    return make_lease("track.admit", {}, options)


def test_a_job_gets_the_decoder_that_it_names() -> None:
    (made,) = offering.admit(lease(decoder="fusion-blossom")).outputs.values()
    decoder = msgpack.unpackb(made)
    assert (decoder["name"], decoder["package"], decoder["erasures"]) == ("fusion-blossom", "fusion-blossom", False)
    (made,) = offering.admit(lease()).outputs.values()
    assert msgpack.unpackb(made)["name"] == "pymatching-tempered"


@pytest.mark.long
@pytest.mark.parametrize("decoder", ["oracle", "chromobius", 7])
def test_other_decoders_are_bad_input(decoder: object) -> None:
    with pytest.raises(Refused, match="decoder") as refused:
        offering.admit(lease(decoder=decoder))
    assert refused.value.code == "bad_input"
    if isinstance(decoder, str):
        assert "admitted: pymatching-tempered, pymatching-correlated, pymatching, fusion-blossom" in str(refused.value)


@pytest.mark.long
def test_the_table_for_people() -> None:
    (made,) = offering.table(make_lease("track.decoders", {}, {})).outputs.values()
    table = msgpack.unpackb(made)
    lines = described(table)
    assert len(lines) == 1 + len(offers())
    (default,) = [line for line in lines if line.startswith("*")]
    assert "pymatching-tempered" in default
    assert [e["name"] for e in table["decoders"]] == list(offers())


@pytest.mark.long
@pytest.mark.parametrize("decoder", ["fusion-blossom", "tesseract"])
def test_another_decoder_fails_about_as_often_as_matching(decoder: str) -> None:
    shots = 4000 if decoder == "fusion-blossom" else 1000
    recording = sampled.record(sampled.cnot(3, "Z"), 5e-3, shots, seed=11)
    plain, other = (sampled.track(recording, decoder=name).bits.any(axis=0) for name in ("pymatching", decoder))
    none = sampled.track(recording, decoder="pymatching").undecoded.any(axis=0)
    if decoder == "fusion-blossom":
        assert (plain != other).mean() < 0.01  # the same matching, but for ties
    assert other.sum() < plain.sum() + 3 * np.sqrt(plain.sum())
    assert other.sum() < none.sum() / 3


@pytest.mark.parametrize(("decoder", "said"), [("fusion-blossom", "discarded"), ("pymatching", "decoded")])
def test_a_decoder_of_fixed_weights_gets_no_shots_with_missing_records(decoder: str, said: str) -> None:
    recording = sampled.record(sampled.memory(3, 6), 1e-3, 20)
    program = recording.program
    tracker = Tracker(program, recording.rates, recording.shots, decoder=decoder)
    first, *rest = sampled.blocks(program, recording.records, program.distance)
    tracker.receive(*first)
    tracker.receive(replace(rest[0][0], status="lost", payload=()))
    for block, bits in rest[1:]:
        tracker.receive(block, bits)
    summary = tracker.outcomes().summary()
    assert summary["same"]["erasures"] == said
    discarded = summary["sum"]["shots_discarded"]
    assert (discarded, summary["sum"]["discards"]) == (
        (20, {"missing records": 20}) if said == "discarded" else (0, {})
    )
