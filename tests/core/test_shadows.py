# SPDX-License-Identifier: Apache-2.0
"""Somebody looks on in a batch from its beginning, or not at all, and nobody depends on it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from kernel_rig import ADAPTER, QEC, TRACKER, Rig, manifest, unpacked

from qcosd.core.aides import SHOWN
from qcosd.core.manifest import Manifest, ManifestError, Operation
from qcosd.core.recovery import image_of
from qcosd.protocol import Type

RUN, TRACK = ADAPTER.operations[-1], TRACKER.operations[0]
RESUMING = dataclasses.replace(ADAPTER, operations=(*ADAPTER.operations[:-1], dataclasses.replace(RUN, resumes=True)))
SHOWING = dataclasses.replace(TRACKER, operations=(dataclasses.replace(TRACK, pool="windows", shadow="shadow"),))
LOOKS_ON = Operation("shadow", "rounds", ("fragments", "calibration"), each="batch", stream_in="shadow")
WINDOWS = Operation("decode", "windows", ("fragments", "calibration"), each="batch", stream_in="windows")
ONLOOKER = manifest("onlooker", LOOKS_ON)
SUMMARY = {"sum": {"counts": {"0": 10}}}


class Batch:
    """A job of one batch with a shadow, whose adapter and tracker have their leases."""

    def __init__(self, *others: Manifest, **options: Any) -> None:
        replaced = {"stim_adapter": RESUMING, "matching_tracker": SHOWING}
        self.rig = Rig(*(replaced.get(each.name, each) for each in QEC), *others)
        self.client = self.rig.client()
        settings = {"shadow": "another", **options.pop("settings", {})}
        self.job = self.rig.submit(self.client, **{"shots": 10, "set": settings, **options})
        self.rig.boot()
        self.out, self.inn = self.rig.lease("stim_adapter"), self.rig.lease("matching_tracker")

    def looking_on(self) -> list[int]:
        """Epochs of who looks on now, as the kernel has it."""
        works = self.rig.kernel.jobs.active[self.job].works.values()
        return [aide.epoch for work in works for aide in work.aides.values() if aide.live and aide.looks_on]

    def end(self) -> dict[str, Any]:
        assert self.rig.done("stim_adapter", self.out).type is Type.ACK
        assert self.rig.done("matching_tracker", self.inn, SUMMARY).type is Type.ACK
        document: dict[str, Any] = self.rig.document(self.client, self.job)
        assert (document["state"], document["restarts"], document["degraded"]) == ("done", 0, [])
        assert self.rig.journal() == unpacked(image_of(self.rig.kernel))
        return document


def test_a_shadow_comes_with_the_lease_and_is_told_by_the_story() -> None:
    batch = Batch(ONLOOKER)
    lease = batch.rig.lease("onlooker")
    (stream,) = batch.inn["aides"]
    assert stream == {**lease["stream"], "role": "connect", "resumes": False}
    assert (stream["name"], stream["credit"], lease["stream"]["role"]) == ("shadow", SHOWN, "bind")
    assert "aides" not in batch.out
    events = [row["event"] for row in batch.end()["story"]]
    assert "shadowed" in events and "helped" not in events


def test_nobody_looks_on_unless_it_is_asked_for() -> None:
    batch = Batch(ONLOOKER, settings={"shadow": ""})
    assert "aides" not in batch.inn and not batch.rig.has_lease("onlooker")
    batch.end()


def test_a_batch_does_without_a_shadow_that_is_not_there() -> None:
    batch = Batch()
    assert "aides" not in batch.inn
    batch.end()


def test_a_dead_shadow_has_no_successor() -> None:
    """It would not have seen the beginning."""
    batch = Batch(ONLOOKER)
    batch.rig.lease("onlooker")
    batch.rig.kill("onlooker")
    batch.rig.advance(10.0)
    assert batch.rig.state("onlooker") == "ready"
    assert batch.looking_on() == [] and not batch.rig.has_lease("onlooker")
    batch.end()


def test_who_is_ready_in_the_middle_is_too_late() -> None:
    rig = Rig(*({"stim_adapter": RESUMING, "matching_tracker": SHOWING}.get(m.name, m) for m in QEC), ONLOOKER)
    rig.kill("onlooker")
    rig.submit(rig.client(), shots=10, set={"shadow": "another"})
    rig.boot()
    assert "aides" not in rig.lease("matching_tracker")
    rig.advance(10.0)
    assert rig.state("onlooker") == "ready"
    assert not rig.has_lease("onlooker")


def test_one_who_works_and_one_who_looks_on_are_told_apart() -> None:
    both = manifest("helper", WINDOWS, LOOKS_ON)
    batch = Batch(dataclasses.replace(both, replicas=2), settings={"workers": 1})
    assert sorted(stream["name"] for stream in batch.inn["aides"]) == ["shadow", "windows"]
    assert {stream["name"]: stream["resumes"] for stream in batch.inn["aides"]} == {"shadow": False, "windows": True}
    rows = [row for row in batch.end()["story"] if row["event"] == "helped"]
    assert [row["workers"] for row in rows] == [1]


def test_a_next_batch_that_is_given_ahead_has_its_shadow_from_the_beginning() -> None:
    tracker = dataclasses.replace(SHOWING.operations[0], ahead=True)
    adapter = dataclasses.replace(RESUMING.operations[-1], ahead=True)
    manifests = {
        "stim_adapter": dataclasses.replace(RESUMING, operations=(*RESUMING.operations[:-1], adapter)),
        "matching_tracker": dataclasses.replace(SHOWING, operations=(tracker,)),
    }
    rig = Rig(*(manifests.get(each.name, each) for each in QEC), dataclasses.replace(ONLOOKER, replicas=2))
    rig.submit(rig.client(), shots=20, batch=10, set={"shadow": "another"})
    rig.boot()
    leases = [rig.lease("matching_tracker"), rig.lease("matching_tracker")]
    assert [lease["batch"] for lease in leases] == [0, 1]
    assert all(len(lease["aides"]) == 1 for lease in leases)


def test_a_stream_for_shadows_is_one_of_its_own() -> None:
    for stream in ("rounds", "windows"):
        with pytest.raises(ManifestError, match="on a stream for them alone"):
            manifest("x", dataclasses.replace(SHOWING.operations[0], shadow=stream))
    with pytest.raises(ManifestError, match="only operations of a batch have shadows"):
        manifest("x", Operation("compile", "compile", shadow="shadow"))
