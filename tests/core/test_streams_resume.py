# SPDX-License-Identifier: Apache-2.0
"""The consumer of a stream dies: its producer is told of the next one, and only the consumer begins anew."""

from __future__ import annotations

import dataclasses

import pytest
from kernel_rig import ADAPTER, QEC, Rig

from qcosd.core.manifest import ManifestError, Operation
from qcosd.protocol import Type

RESUMING = dataclasses.replace(
    ADAPTER, operations=tuple(dataclasses.replace(o, resumes=o.stream_out is not None) for o in ADAPTER.operations)
)


def running() -> tuple[Rig, str, dict, dict]:
    rig = Rig(*(RESUMING if manifest is ADAPTER else manifest for manifest in QEC))
    job = rig.submit(rig.client(), shots=10)
    rig.boot()
    return rig, job, rig.lease("stim_adapter"), rig.lease("matching_tracker")


def test_only_the_consumer_begins_anew() -> None:
    rig, job, out, inn = running()
    assert (out["stream"]["resumes"], inn["stream"]["resumes"]) == (True, False)
    rig.kill("matching_tracker")
    rig.advance(0.0)
    again = rig.lease("matching_tracker")
    grant = rig.read(rig.address("stim_adapter"), Type.GRANT).body
    assert (grant["lease"], grant["epoch"]) == (out["lease"], out["epoch"])
    assert grant["stream"] == {**again["stream"], "role": "connect", "resumes": True}
    assert (again["stream"]["grant"], again["stream"]["epoch"]) == (out["stream"]["grant"], 2)
    assert {again["stream"][key] for key in ("endpoint", "secret")}.isdisjoint(out["stream"].values())
    assert not rig.has_lease("stim_adapter")
    assert rig.done("stim_adapter", {**out, "stream": again["stream"]}).type is Type.ACK
    assert rig.done("matching_tracker", again, {"sum": {"counts": {"0": 10}}}).type is Type.ACK
    assert rig.document(rig.client(), job)["state"] == "done"


def test_a_producer_that_came_to_its_end_with_the_dead_consumer_begins_again_too() -> None:
    rig, job, out, inn = running()
    rig.kill("matching_tracker")
    rig.advance(0.0)
    lost = rig.lease("matching_tracker")
    # The GRANT and this message cross: the last acknowledgement was that of the consumer which died.
    body = {"lease": out["lease"], "epoch": out["epoch"], "outputs": {}, "stream": inn["stream"]["epoch"]}
    assert rig.ask(rig.address("stim_adapter"), Type.DONE, body).type is Type.ACK
    assert rig.read(rig.address("matching_tracker"), Type.REVOKE).body["lease"] == lost["lease"]
    rig.tell(rig.address("matching_tracker"), Type.REVOKED, {"lease": lost["lease"], "epoch": lost["epoch"]})
    rig.advance(0.0)
    out, inn = rig.lease("stim_adapter"), rig.lease("matching_tracker")
    assert out["stream"]["secret"] == inn["stream"]["secret"]
    assert rig.done("stim_adapter", out).type is Type.ACK
    assert rig.done("matching_tracker", inn, {"sum": {"counts": {"0": 10}}}).type is Type.ACK
    assert rig.document(rig.client(), job)["state"] == "done"


def test_a_producer_that_waits_for_a_consumer_comes_before_other_batches() -> None:
    """They lack what it occupies: with them first, nobody would ever get anything."""
    rig = Rig(*(RESUMING if manifest is ADAPTER else manifest for manifest in QEC))
    job = rig.submit(rig.client(), shots=20, batch=10)
    rig.boot()
    rig.fail("matching_tracker", rig.lease("matching_tracker"), "retry_later")
    rig.give_up("stim_adapter")
    rig.lease("stim_adapter")
    rig.advance(0.0)
    out, inn = rig.lease("stim_adapter"), rig.lease("matching_tracker")
    assert (out["batch"], inn["batch"]) == (1, 1), "batch 0 pauses"
    rig.advance(60.0)
    rig.kill("matching_tracker")
    rig.advance(0.0)
    again = rig.lease("matching_tracker")
    assert again["batch"] == 1
    assert rig.done("stim_adapter", {**out, "stream": again["stream"]}).type is Type.ACK
    assert rig.done("matching_tracker", again, {"sum": {"counts": {"0": 10}}}).type is Type.ACK
    assert rig.done("stim_adapter", rig.lease("stim_adapter")).type is Type.ACK
    assert rig.done("matching_tracker", rig.lease("matching_tracker"), {"sum": {"counts": {"0": 10}}}).type is Type.ACK
    assert rig.document(rig.client(), job)["state"] == "done"


def test_only_producers_resume() -> None:
    with pytest.raises(ManifestError, match="only producers of a stream"):
        dataclasses.replace(ADAPTER, operations=(Operation("hardware", "describe", resumes=True),))
