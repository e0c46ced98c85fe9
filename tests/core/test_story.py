# SPDX-License-Identifier: Apache-2.0
"""The story of a job: told in order, kept short, the same after any restart of the daemon."""

from __future__ import annotations

from typing import Any

from kernel_rig import HELLO, QEC, Rig

from qcosd.core.story import BEGINNING, KEPT, Story
from qcosd.protocol import Type


def events(document: dict[str, Any]) -> list[str]:
    return [row["event"] for row in document["story"]]


def counted(rig: Rig, shots: int) -> None:
    """Do the next batch."""
    hardware = rig.lease("stim_adapter")
    rig.work("matching_tracker", {"sum": {"counts": {"0": shots}}})
    rig.done("stim_adapter", hardware)


def test_a_job_that_goes_well() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=100, batch=10)
    rig.boot()
    for _ in range(10):
        counted(rig, 10)
    document = rig.document(client, job)
    assert document["state"] == "done"
    told = [(row["event"], row.get("op"), row["times"]) for row in document["story"]]
    assert told[:2] == [("accepted", None, 1), ("batches_cut", None, 1)]
    assert [event for event, op, _ in told if op == "compile.compile"] == ["given", "delivered"]
    assert told[-3:] == [
        ("batches_given", "track.run", 10), ("batches_delivered", "track.run", 10), ("ended", None, 1),
    ]  # fmt: skip
    assert document["story"][-3]["who"] == [["matching_tracker", 6], ["stim_adapter", 5]]
    assert document["story"][0]["at"] == document["submitted"]


def test_a_death_is_told_with_the_last_words_and_who_went_on() -> None:
    from qcosd.core.events import LogLine

    rig = Rig(HELLO)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    rig.feed(LogLine("hello", "x" * 300))
    rig.feed(LogLine("hello", "Segmentation fault"))
    rig.kill("hello")
    rig.advance(60.0)
    rig.work("hello")
    document = rig.document(client, job)
    assert events(document) == ["accepted", "given", "lost", "given", "delivered", "ended"]
    _, first, lost, second, *_ = document["story"]
    assert (first["who"], first["epoch"]) == ([["hello", 1]], 1)
    assert (second["who"], second["epoch"]) == ([["hello", 2]], 2)
    assert lost["who"] == [["hello", 1]]
    assert lost["reason"] == "hello: killed by signal 11"
    assert lost["log"] == ["x" * 200, "Segmentation fault"]


def test_holds_are_told_once_and_outlive_the_daemon() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "hello"})
    rig.kill("hello", 0)
    job = rig.submit(client, "greeting", target="greeted")
    rig.advance(1.0)
    rig.reboot()
    client = rig.client("c2")
    assert events(rig.document(client, job)) == ["accepted", "held", "boot"]
    assert rig.document(client, job)["story"][2]["boot"] == 8
    rig.request(client, Type.PLUGIN_START, {"plugin": "hello"})
    rig.work("hello")
    document = rig.document(client, job)
    assert events(document) == ["accepted", "held", "boot", "released", "given", "delivered", "ended"]
    rig.advance(1.0)
    rig.reboot()
    after = rig.document(rig.client("c3"), job)
    assert after["story"] == document["story"], "what comes after its end is no part of it"


def test_why_a_job_failed_is_its_last_entry() -> None:
    rig = Rig(HELLO)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    rig.fail("hello", rig.lease("hello"), "unsupported", "no greeting")
    last = rig.document(client, job)["story"][-1]
    assert (last["event"], last["state"], last["error"], last["reason"]) == (
        "ended", "failed", "unsupported", "no greeting",
    )  # fmt: skip


def test_what_repeats_is_one_entry() -> None:
    story = Story()
    for at in range(1000):
        story.tell(float(at), "batches_given", op="a", who=[["x", at % 2]])
        story.tell(float(at), "batches_delivered", op="a")
    assert [(entry[1], entry[3], entry[4]) for entry in story.entries] == [
        ("batches_given", 500, 998.0), ("batches_delivered", 1000, 999.0), ("batches_given", 500, 999.0),
    ]  # fmt: skip


def test_a_long_story_loses_its_middle_and_says_so() -> None:
    story = Story()
    for number in range(KEPT + 50):
        story.tell(float(number), "lost", number=number)
    rows = Story.of(story.body()).document([])
    assert len(rows) == KEPT + 1
    assert (rows[BEGINNING]["event"], rows[BEGINNING]["times"]) == ("left_out", 50)
    assert [rows[0]["number"], rows[BEGINNING - 1]["number"], rows[BEGINNING + 1]["number"], rows[-1]["number"]] == [
        0, BEGINNING - 1, BEGINNING + 50, KEPT + 49,
    ]  # fmt: skip
