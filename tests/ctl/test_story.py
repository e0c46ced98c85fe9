# SPDX-License-Identifier: Apache-2.0
"""The story of a job as people read it."""

from __future__ import annotations

from typing import Any

import pytest

from qcosd.ctl.story import people, sentence, told


def row(event: str, **fields: Any) -> dict[str, Any]:
    return {"at": 1000.5, "until": 1002.0, "times": 1, "event": event, **fields}


WHO = [["tracker", 3], ["adapter", 5]]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (row("accepted", owner="uid:0", shots=9, seed=4), "accepted from uid:0: 9 shots, seed 4"),
        (row("given", op="a.b", batch=None, epoch=1, who=[["x", 1]]), "a.b given to x/1"),
        (row("given", op="a.b", batch=7, epoch=2, who=WHO), "a.b of batch 7 given to tracker/3 and adapter/5 again (epoch 2)"),
        (row("batches_given", op="a.b", who=WHO, times=1), "a.b: 1 batch given to tracker/3 and adapter/5"),
        (row("batches_delivered", op="a.b", times=2), "a.b: 2 batches delivered"),
        (row("delivered", op="a.b", kinds=["k", "l"]), "a.b has delivered k, l"),
        (row("lost", op="a.b", batch=0, who=[["x", 1]], reason="x: killed by signal 9"), "a.b of batch 0 lost by x/1: x: killed by signal 9"),
        (row("taken_back", op="a.b", batch=None, who=[], reason="deferred"), "a.b taken back: deferred"),
        (row("helped", workers=1, failures=0), "1 worker helps"),
        (row("helped", workers=2, failures=3), "2 workers help; 3 failed or died, which costs the job nothing"),
        (row("preempted", op="a.b", batch=None, who=[["x", 1]], reason="job 9 is more urgent"), "a.b taken back from x/1: job 9 is more urgent"),
        (row("took_over", op="a.b", component="y", before="x"), "y takes over a.b from x"),
        (row("fenced", component="x", reason="it lies", place="v.p by v"), "x does nothing more for this job: it lies (noticed by v.p by v)"),
        (row("dropped", components=["x"]), "what x made is dropped, and what was made from that"),
        (row("batches_cut", shots=9, size=4), "9 shots make batches of 4"),
        (row("batches_added", shots=2), "batches added for 2 shots that were discarded"),
        (row("checked", kinds=["k"]), "k passed the check"),
        (row("waived", kinds=["k"], batch=None, reason=""), "k goes unchecked"),
        (row("waived", kinds=["k"], batch=4, reason="too\nlarge"), "k of batch 4 goes unchecked: too large"),
        (row("held", cause="x is away"), "held: x is away"),
        (row("released"), "goes on"),
        (row("boot", boot=4), "the daemon was started again (boot 4)"),
        (row("left_out", times=50), "... 50 entries left out ..."),
        (row("ended", state="done"), "done"),
        (row("ended", state="cancelled", error="cancelled", reason=""), "cancelled"),
        (row("ended", state="failed", error="poison", reason="it kills"), "failed (poison): it kills"),
        (row("of_a_later_version", thing=1), "of_a_later_version thing=1"),
    ],
)  # fmt: skip
def test_sentences(entry: dict[str, Any], text: str) -> None:
    assert sentence(entry) == text


def test_times_count_from_the_acceptance_and_last_words_stand_below() -> None:
    story = [
        row("batches_given", op="a.b", who=[["x", 1]], times=3),
        row("taken_back", op="a.b", batch=None, who=[], reason="deferred", times=2),
        row("lost", op="a.b", batch=None, who=[["x", 1]], reason="x: died", log=["one", "two"]),
    ]
    first, second, third, *below = told({"submitted": 1000.0, "story": story})
    assert first.endswith("+0.500 s  a.b: 3 batches given to x/1, the last at +2.000 s")
    assert second.endswith("a.b taken back: deferred, 2 times, the last at +2.000 s")
    assert third.endswith("a.b lost by x/1: x: died")
    assert [line.strip() for line in below] == ["| one", "| two"]


def test_everybody_who_had_a_hand_in_it() -> None:
    document = {
        "plan": {"providers": {"a.b": "x", "a.c": "x", "d.e": "y"}},
        "fenced": {"liar": "it lies"},
        "story": [row("lost", op="a.b", batch=None, who=[["z", 1]], reason="")],
    }
    assert people(document) == ["x", "y", "liar", "z"]
