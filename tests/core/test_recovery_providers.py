# SPDX-License-Identifier: Apache-2.0
"""Components that are others than before, and work that another one does."""

from __future__ import annotations

import dataclasses

import pytest
from kernel_rig import ADAPTER, HELLO, QEC, TRACKER, Rig, unpacked
from recovery_rig import greet, submit, survivors

from qcosd.core.recovery import image_of
from qcosd.protocol import Type


def test_whose_maker_is_not_installed_any_more_is_done_by_another_one() -> None:
    rig = Rig(*QEC)
    client = rig.client()
    job = rig.submit(client, shots=20, batch=10)
    rig.boot()
    others = [dataclasses.replace(m, name=f"new_{m.name}") if m in (ADAPTER, TRACKER) else m for m in QEC]
    rig.start = dataclasses.replace(rig.start, manifests=tuple(others))
    rig.manifests = {m.name: m for m in others}
    rig.reboot()
    for component in ("new_stim_adapter", "surface_code", "new_stim_adapter", "grid_mapper"):
        rig.work(component)
    for _ in range(2):
        rig.work("new_stim_adapter")
        rig.work("new_matching_tracker", {"sum": {"counts": {"0": 10}}})
    document = rig.document(rig.client(), job)
    assert document["state"] == "done"
    assert document["plan"]["providers"]["hardware.run"] == "new_stim_adapter"
    assert rig.journal() == unpacked(image_of(rig.kernel))


@pytest.mark.parametrize("lives", [True, False])
def test_a_manifest_that_is_gone_is_named(lives: bool) -> None:
    rig = Rig(HELLO, ADAPTER)
    job = submit(rig, rig.client())
    rig.lease("hello")
    rig.reboot(manifests=(ADAPTER,), survivors=survivors(rig) if lives else ())
    document = rig.document(rig.client(), job)
    gone = "the manifest (plugin.toml) of hello is not here any more"
    told = {row["event"]: row for row in document["story"]}
    assert told["lost"]["reason"] == gone
    assert document["cause"] == told["held"]["cause"] == f"nothing produces `greeted`; {gone}"


def test_a_producer_does_not_wait_for_a_consumer_that_nobody_will_start() -> None:
    adapter = dataclasses.replace(ADAPTER, operations=tuple(
        dataclasses.replace(o, resumes=True) if o.stream_out else o for o in ADAPTER.operations
    ))  # fmt: skip
    rig = Rig(*QEC[:4], adapter, TRACKER, dataclasses.replace(TRACKER, name="other", rank=-1))
    client = rig.client()
    job = rig.submit(client, shots=10)
    rig.boot()
    rig.lease("matching_tracker")
    rig.lease("stim_adapter")
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "matching_tracker"})
    rig.kill("matching_tracker", status=0)
    rig.give_up("stim_adapter")
    rig.work("stim_adapter")
    rig.work("other", {"sum": {"counts": {"0": 10}}})
    assert rig.document(client, job)["state"] == "done"
    assert rig.journal() == unpacked(image_of(rig.kernel))


def test_a_work_item_whose_provider_is_another_one_is_in_the_journal_as_it_is_here() -> None:
    rig = Rig(HELLO, dataclasses.replace(HELLO, name="other", rank=-1), hello=False)
    greet(rig, "hello", 1)
    client = rig.client()
    submit(rig, client)
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "hello"})
    rig.kill("hello", status=0)
    rig.advance(1.0)  # the other one is not ready yet
    assert rig.journal() == unpacked(image_of(rig.kernel))
    greet(rig, "other", 2)
    assert rig.has_lease("other")
    assert rig.journal() == unpacked(image_of(rig.kernel))
