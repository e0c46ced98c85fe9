# SPDX-License-Identifier: Apache-2.0
"""Snapshot then changes: nothing is missed without being fetched."""

from __future__ import annotations

from typing import Any

from qcosd.protocol import Message, Type, encode
from qcosd.sdk.subscription import Subscription, TopicEvent


def event(topic: str, seq: int, state: dict[str, Any] | None = None, boot: int = 3) -> list[bytes]:
    body = {"topic": topic, "seq": seq, "state": state or {}}
    return [topic.encode(), *encode(Message(Type.EVENT, body, boot=boot))]


def reply(topics: dict[str, tuple[int, dict[str, Any]]], boot: int = 3) -> Message:
    rows = {topic: {"seq": seq, "state": state} for topic, (seq, state) in topics.items()}
    return Message(Type.SNAPSHOT_REPLY, {"topics": rows}, 1, boot)


def live(*prefixes: str) -> Subscription:
    """A subscription that has had its (empty) snapshots."""
    subscription = Subscription(prefixes)
    for prefix in prefixes:
        assert subscription.event(event(prefix, 0)) == []
    assert subscription.wanted == set(prefixes)
    for prefix in prefixes:
        assert subscription.snapshot(prefix, reply({})) == []
    assert not subscription.wanted
    return subscription


def test_nothing_counts_before_the_snapshot_and_nothing_twice_after_it() -> None:
    subscription = Subscription(["job."])
    subscription.event(event("job.", 0))
    assert subscription.event(event("job.1", 5, {"n": 5})) == []
    assert subscription.snapshot("job.", reply({"job.1": (6, {"n": 6})})) == [TopicEvent("job.1", 6, {"n": 6}, True)]
    assert subscription.event(event("job.1", 6, {"n": 6})) == []
    assert subscription.event(event("job.1", 7, {"n": 7})) == [TopicEvent("job.1", 7, {"n": 7})]


def test_a_new_topic_begins_with_one() -> None:
    subscription = live("job.")
    assert [each.seq for each in subscription.event(event("job.2", 1))] == [1]


def test_a_gap_is_filled_by_the_snapshot_of_its_prefix_only() -> None:
    subscription = live("job.", "kernel")
    subscription.event(event("job.2", 1))
    assert subscription.event(event("job.2", 3)) == []
    assert subscription.wanted == {"job."}
    assert [each.seq for each in subscription.event(event("kernel", 1))] == [1]
    assert [each.seq for each in subscription.snapshot("job.", reply({"job.2": (3, {})}))] == [3]
    assert [each.seq for each in subscription.event(event("job.2", 4))] == [4]


def test_a_reconnection_shows_in_the_zeroth_event() -> None:
    subscription = live("job.")
    subscription.event(event("job.2", 1))
    subscription.event(event("job.", 0))
    assert subscription.wanted == {"job."}
    assert subscription.snapshot("job.", reply({"job.2": (1, {})})) == []


def test_a_new_boot_starts_every_number_anew() -> None:
    subscription = live("job.", "kernel")
    subscription.event(event("job.2", 1))
    subscription.event(event("job.2", 2))
    subscription.event(event("job.2", 1, boot=4))
    assert subscription.wanted == {"job.", "kernel"}
    changed = subscription.snapshot("job.", reply({"job.2": (1, {"n": 1})}, boot=4))
    assert [(each.seq, each.state) for each in changed] == [(1, {"n": 1})]
    assert subscription.event(event("job.2", 3, boot=3)) == [], "an event of before the restart"


def test_a_snapshot_of_a_newer_boot_than_the_events_asks_for_the_others_again() -> None:
    subscription = live("job.", "kernel")
    subscription.wanted.add("job.")
    subscription.snapshot("job.", reply({"job.1": (1, {})}, boot=4))
    assert subscription.wanted == {"kernel"} and subscription.boot == 4


def test_what_is_no_event_is_ignored() -> None:
    subscription = live("job.")
    assert subscription.event([b"job.1", b"\xc1", b"\xc1"]) == []
    assert subscription.event([b"job.1"]) == []
    assert subscription.event(event("plugin.x", 1)) == []
    assert not subscription.wanted
