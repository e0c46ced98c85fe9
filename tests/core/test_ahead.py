# SPDX-License-Identifier: Apache-2.0
"""The next batch is leased before the present one has ended: to the same hands, in order, and never before what is more urgent."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from kernel_rig import ADAPTER, QEC, TRACKER, Rig

from qcosd.core.manifest import Manifest
from qcosd.protocol import Type

SUMMARY = {"sum": {"counts": {"0": 10}}}


def eager(manifest: Manifest) -> Manifest:
    operations = (
        dataclasses.replace(o, ahead=o.each == "batch", resumes=o.stream_out is not None) for o in manifest.operations
    )
    return dataclasses.replace(manifest, operations=tuple(operations))


EAGER = [eager(each) if each in (ADAPTER, TRACKER) else each for each in QEC]


class Stream:
    """A job of batches of ten shots."""

    def __init__(self, *manifests: Manifest, batches: int = 4, **options: object) -> None:
        self.rig = Rig(*(manifests or EAGER))
        self.client = self.rig.client()
        self.job = self.rig.submit(self.client, shots=10 * batches, batch=10, **options)
        self.rig.boot()

    def given(self, name: str) -> list[int]:
        """Batches of the leases that a plugin has been sent and that nobody has looked at, in order."""
        found = []
        while self.rig.has_lease(name):
            found.append(self.rig.lease(name)["batch"])
        return found

    def both(self) -> tuple[list[int], list[int]]:
        return self.given("stim_adapter"), self.given("matching_tracker")


def revoked(rig: Rig, name: str) -> list[dict[str, Any]]:
    """What a plugin has been asked to give up."""
    return [message.body for message in rig.inbox[rig.address(name)] if message.type is Type.REVOKE]


def test_the_second_batch_is_there_while_the_first_one_runs_and_no_third_one() -> None:
    assert Stream().both() == ([0, 1], [0, 1])


def test_only_where_both_sides_take_it() -> None:
    for lazy in (ADAPTER, TRACKER):
        manifests = [lazy if each.name == lazy.name else each for each in EAGER]
        assert Stream(*manifests).both() == ([0], [0])


def test_each_end_brings_one_more_until_there_are_none() -> None:
    stream = Stream()
    rig = stream.rig
    leases = {name: [rig.lease(name), rig.lease(name)] for name in ("stim_adapter", "matching_tracker")}
    for batch in range(4):
        out, inn = leases["stim_adapter"].pop(0), leases["matching_tracker"].pop(0)
        assert (out["batch"], inn["batch"]) == (batch, batch)
        assert rig.done("stim_adapter", out).type is Type.ACK
        assert not rig.has_lease("stim_adapter"), "the consumer still has two"
        assert rig.done("matching_tracker", inn, SUMMARY).type is Type.ACK
        for name, held in leases.items():
            held += [rig.lease(name)] if rig.has_lease(name) else []
            assert [each["batch"] for each in held] == [*range(batch + 1, min(batch + 3, 4))]
    assert rig.document(stream.client, stream.job)["summary"]["sum"]["counts"] == {"0": 40}


def test_somebody_more_urgent_is_not_made_to_wait_for_it() -> None:
    stream = Stream()
    rig = stream.rig
    first = {name: [rig.lease(name), rig.lease(name)] for name in ("stim_adapter", "matching_tracker")}
    urgent = rig.submit(stream.client, shots=10, priority=5)
    rig.advance(0.0)
    rig.done("stim_adapter", first["stim_adapter"][0])
    rig.done("matching_tracker", first["matching_tracker"][0], SUMMARY)
    assert not rig.has_lease("matching_tracker"), "the third batch would be next, and somebody else is"
    rig.done("stim_adapter", first["stim_adapter"][1])
    rig.done("matching_tracker", first["matching_tracker"][1], SUMMARY)
    rig.advance(0.0)
    assert rig.lease("stim_adapter")["job"] == urgent


@pytest.mark.parametrize("victim", ["stim_adapter", "matching_tracker"])
def test_a_death_gives_both_back_and_they_come_in_order(victim: str) -> None:
    stream = Stream()
    rig = stream.rig
    assert stream.both() == ([0, 1], [0, 1])
    rig.kill(victim)
    rig.advance(0.0)
    if victim == "stim_adapter":  # everything begins again, one after the other has been given up
        for body in revoked(rig, "matching_tracker"):
            rig.tell(rig.address("matching_tracker"), Type.REVOKED, {k: body[k] for k in ("lease", "epoch")})
        rig.advance(0.0)
        assert stream.both() == ([0, 1], [0, 1])
    else:  # producers go on: the first one at once, the second when there is room
        assert stream.both() == ([], [0])


def test_cancelling_takes_both_back() -> None:
    stream = Stream()
    rig = stream.rig
    stream.both()
    rig.ask(stream.client, Type.JOB_CANCEL, {"job": stream.job})
    for name in ("stim_adapter", "matching_tracker"):
        assert len(revoked(rig, name)) == 2
