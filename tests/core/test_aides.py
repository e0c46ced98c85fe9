# SPDX-License-Identifier: Apache-2.0
"""Workers help a running batch and are never needed: they come, die and are replaced, and nobody else pays."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from kernel_rig import ADAPTER, QEC, TRACKER, Rig, manifest, plugin, unpacked
from recovery_rig import greet, held, reboot, survivors

from qcosd.core.aide import MOST_FAILURES
from qcosd.core.effects import SetPriority, Signal
from qcosd.core.events import Address, Channel, Exited, PeerGone
from qcosd.core.manifest import Manifest, ManifestError, Operation
from qcosd.core.recovery import image_of
from qcosd.core.works import MOMENT
from qcosd.protocol import Type

RUN, TRACK = ADAPTER.operations[-1], TRACKER.operations[0]
RESUMING = dataclasses.replace(ADAPTER, operations=(*ADAPTER.operations[:-1], dataclasses.replace(RUN, resumes=True)))
POOLED = dataclasses.replace(TRACKER, operations=(dataclasses.replace(TRACK, pool="windows"),))
WINDOWS = Operation("decode", "windows", ("fragments", "calibration"), each="batch", stream_in="windows")
DECODER = manifest("decode_worker", WINDOWS)
SUMMARY = {"sum": {"counts": {"0": 10}}}


def crew(*workers: Manifest, tracker: Manifest = POOLED) -> list[Manifest]:
    replaced = {"stim_adapter": RESUMING, "matching_tracker": tracker}
    return [*(replaced.get(each.name, each) for each in QEC), *workers]


class Batch:
    """A job of one batch that runs, with its producer's and its consumer's leases."""

    def __init__(self, *manifests: Manifest, **options: Any) -> None:
        self.rig = Rig(*(manifests or crew(DECODER)))
        self.client = self.rig.client()
        settings = {"workers": options.pop("workers", 2)}
        self.job = self.rig.submit(self.client, shots=10, set=settings, **options)
        self.rig.boot()
        self.out, self.inn = self.rig.lease("stim_adapter"), self.rig.lease("matching_tracker")
        self.tracker = self.rig.address("matching_tracker")

    @property
    def aides(self) -> list[tuple[int, int]]:
        """Grants and epochs of who helps now, as the kernel has it."""
        works = self.rig.kernel.jobs.active[self.job].works.values()
        return [(aide.grant, aide.epoch) for work in works for aide in work.aides.values() if aide.live]

    def grant(self) -> dict[str, Any]:
        """The next stream that the tracker is told of."""
        body = self.rig.read(self.tracker, Type.GRANT).body
        assert (body["lease"], body["epoch"]) == (self.inn["lease"], self.inn["epoch"])
        return dict(body["stream"])

    def quiet(self) -> bool:
        """Whether neither tracker nor adapter has been told anything."""
        told = [*self.rig.inbox[self.tracker], *self.rig.inbox[self.rig.address("stim_adapter")]]
        return not [message for message in told if message.type in (Type.LEASE, Type.GRANT, Type.REVOKE)]

    def document(self) -> dict[str, Any]:
        return self.rig.document(self.client, self.job)

    def end(self) -> dict[str, Any]:
        """Adapter and tracker come to their end; nothing in the document may say that anybody helped or failed."""
        assert self.rig.done("stim_adapter", self.out).type is Type.ACK
        assert self.rig.done("matching_tracker", self.inn, SUMMARY).type is Type.ACK
        document = self.document()
        assert document["state"] == "done"
        assert (document["restarts"], document["shots_restarted"], document["degraded"]) == (0, 0, [])
        assert not document["fenced"] and "decode.windows" not in document["plan"]["providers"]
        assert self.rig.journal() == unpacked(image_of(self.rig.kernel))
        return document

    def helped(self) -> list[dict[str, Any]]:
        keys = ("workers", "failures", "times")
        return [{k: row[k] for k in keys} for row in self.document()["story"] if row["event"] == "helped"]


def test_a_free_worker_comes_with_the_lease() -> None:
    batch = Batch()
    lease = batch.rig.lease("decode_worker")
    (stream,) = batch.inn["aides"]
    assert stream == {**lease["stream"], "role": "connect", "resumes": True}
    assert (lease["stream"]["role"], lease["stream"]["name"]) == ("bind", "windows")
    assert stream["grant"] != batch.inn["stream"]["grant"] and stream["secret"] != batch.inn["stream"]["secret"]
    assert "aides" not in batch.out
    assert (lease["job"], lease["batch"], sorted(lease["inputs"])) == (batch.job, 0, ["calibration", "fragments"])
    assert lease["seed"] == batch.inn["seed"]
    priorities = {effect.incarnation: effect.online for effect in batch.rig.of(SetPriority)}
    assert priorities[batch.rig.kernel.supervisor.components["decode_worker"].incarnation]
    show = batch.rig.ask(batch.client, Type.PLUGIN_SHOW, {"plugin": "decode_worker"}).body["document"]
    assert [(row["op"], row["batch"]) for row in show["instances"][0]["leases"]] == [("decode.windows", 0)]
    batch.end()


@pytest.mark.parametrize("workers", [0, 2])
def test_nobody_is_needed(workers: int) -> None:
    batch = Batch(*(crew(DECODER) if not workers else crew()), workers=workers)
    assert "aides" not in batch.inn and not batch.aides
    batch.end()
    assert batch.helped() == []


def test_who_becomes_free_later_is_granted() -> None:
    batch = Batch(*crew(dataclasses.replace(DECODER, max_replicas=3)))
    assert len(batch.inn["aides"]) == 1
    assert len(batch.aides) == 2, "one more process was asked for"
    stream = batch.grant()
    assert (stream["grant"], stream["epoch"]) == batch.aides[1] and stream["resumes"]
    assert len(batch.rig.kernel.supervisor.components["decode_worker"].instances) == 2, "and no third one"
    assert batch.helped() == [{"workers": 2, "failures": 0, "times": 2}]
    batch.end()


def test_a_dead_worker_has_a_successor_in_its_place_three_times() -> None:
    batch = Batch(workers=1)
    (first,) = batch.inn["aides"]
    for epoch in range(2, MOST_FAILURES + 1):
        batch.rig.lease("decode_worker")
        batch.rig.kill("decode_worker")
        batch.rig.advance(10.0)
        stream = batch.grant()
        assert (stream["grant"], stream["epoch"]) == (first["grant"], epoch)
        assert stream["secret"] != first["secret"] and stream["endpoint"] != first["endpoint"]
    batch.rig.kill("decode_worker")
    batch.rig.advance(10.0)
    assert batch.aides == [] and batch.quiet()
    assert batch.rig.state("decode_worker") == "ready"
    assert len(batch.rig.kernel.supervisor.components["decode_worker"].deaths) == 3, "it pays for itself"
    batch.end()
    assert batch.helped() == [{"workers": 1, "failures": 3, "times": 6}]


@pytest.mark.parametrize("error", ["internal", "retry_later", "wrong_output", "wrong_input", "no_space", "bad_input"])
def test_a_worker_that_fails_hurts_nobody(error: str) -> None:
    batch = Batch(workers=1)
    for _ in range(MOST_FAILURES):
        lease = batch.rig.lease("decode_worker")
        details = {"kind": "fragments"} if error == "wrong_input" else {}
        assert batch.rig.fail("decode_worker", lease, error, "sorry", **details).type is Type.ACK
    assert not batch.rig.has_lease("decode_worker") and batch.aides == []
    assert batch.rig.state("decode_worker") == "ready"
    batch.end()


def test_a_worker_that_delivers_what_nobody_asked_for_hurts_nobody() -> None:
    batch = Batch(workers=1)
    lease = batch.rig.lease("decode_worker")
    outputs = {"counts": batch.rig.put(batch.client, b"mine")}
    body = {"lease": lease["lease"], "epoch": lease["epoch"], "outputs": outputs, "facts": {"depth": 1}}
    assert batch.rig.refusal(batch.rig.address("decode_worker"), Type.DONE, body) == "wrong_output"
    assert batch.grant()["epoch"] == 2
    assert batch.end()["facts"].keys() == set()


def test_a_worker_may_say_nothing_and_outlast_its_budget() -> None:
    batch = Batch(*crew(manifest("decode_worker", dataclasses.replace(WINDOWS, budget=50.0))), workers=1)
    batch.rig.lease("decode_worker")
    batch.rig.advance(51.0)
    batch.rig.give_up("decode_worker")
    assert batch.grant()["epoch"] == 2 and batch.rig.has_lease("decode_worker")
    batch.end()


def test_who_has_ended_well_has_no_successor() -> None:
    """The tracker has closed its streams, and its result is on the way."""
    batch = Batch(workers=1)
    assert batch.rig.done("decode_worker", batch.rig.lease("decode_worker")).type is Type.ACK
    assert not batch.rig.has_lease("decode_worker") and batch.quiet()
    batch.end()


@pytest.mark.parametrize("patient", [True, False])
def test_after_the_tracker_is_done_its_workers_have_a_moment(patient: bool) -> None:
    batch = Batch(workers=1)
    lease = batch.rig.lease("decode_worker")
    batch.end()
    address = batch.rig.address("decode_worker")
    batch.rig.advance(MOMENT / 2)
    assert not [message for message in batch.rig.inbox[address] if message.type is Type.REVOKE]
    if patient:
        assert batch.rig.done("decode_worker", lease).type is Type.ACK
    else:
        batch.rig.advance(MOMENT)
        batch.rig.give_up("decode_worker")
    batch.rig.advance(60.0)
    assert len(batch.rig.kernel.scheduler.leases) == 0
    assert not [effect for effect in batch.rig.of(Signal)], "nobody had to be killed"


def test_the_workers_of_a_dead_tracker_go_and_the_next_one_has_its_own() -> None:
    batch = Batch(workers=1)
    lease = batch.rig.lease("decode_worker")
    (first,) = batch.inn["aides"]
    batch.rig.kill("matching_tracker")
    assert batch.rig.read(batch.rig.address("decode_worker"), Type.REVOKE).body["lease"] == lease["lease"]
    batch.rig.advance(0.0)
    again = batch.rig.lease("matching_tracker")
    assert "aides" not in again, "it has not given it up yet"
    batch.inn, batch.tracker = again, batch.rig.address("matching_tracker")
    batch.rig.tell(batch.rig.address("decode_worker"), Type.REVOKED, {"lease": lease["lease"], "epoch": lease["epoch"]})
    stream = batch.grant()
    assert (stream["grant"], stream["epoch"]) == (first["grant"], first["epoch"] + 1)
    batch.rig.read(batch.rig.address("stim_adapter"), Type.GRANT)
    assert batch.rig.done("stim_adapter", {**batch.out, "stream": again["stream"]}).type is Type.ACK
    assert batch.rig.done("matching_tracker", again, SUMMARY).type is Type.ACK
    document = batch.document()
    assert (document["state"], document["restarts"], document["shots_restarted"]) == ("done", 1, 0)


def test_what_ends_the_job_ends_its_workers() -> None:
    batch = Batch(workers=1)
    lease = batch.rig.lease("decode_worker")
    batch.rig.ask(batch.client, Type.JOB_CANCEL, {"job": batch.job})
    assert batch.rig.read(batch.rig.address("decode_worker"), Type.REVOKE).body["lease"] == lease["lease"]
    for component in ("stim_adapter", "matching_tracker", "decode_worker"):
        batch.rig.give_up(component)
    batch.rig.tell(batch.rig.address("decode_worker"), Type.REVOKED, {"lease": lease["lease"], "epoch": lease["epoch"]})
    assert len(batch.rig.kernel.scheduler.leases) == 0


def test_a_component_that_may_do_nothing_for_the_job_does_not_help_it() -> None:
    other = dataclasses.replace(DECODER, name="other_worker", rank=5)
    batch = Batch(*crew(DECODER, other), workers=1, use={"decode": "decode_worker"})
    assert batch.rig.has_lease("decode_worker") and not batch.rig.has_lease("other_worker")
    batch = Batch(*crew(DECODER, other), workers=2)
    assert batch.rig.has_lease("other_worker") and batch.rig.has_lease("decode_worker"), "the highest rank first"
    assert [aide.step.parts[0].component for aide in aides_of(batch)] == ["other_worker", "decode_worker"]


def aides_of(batch: Batch) -> list[Any]:
    works = batch.rig.kernel.jobs.active[batch.job].works.values()
    return [aide for work in works for aide in work.aides.values()]


def test_who_needs_what_does_not_exist_does_not_help() -> None:
    needy = manifest("decode_worker", dataclasses.replace(WINDOWS, consumes=("counts",)))
    batch = Batch(*crew(needy))
    assert not batch.aides
    batch.end()


def test_who_helps_makes_way_for_what_is_needed() -> None:
    """Both are done by the same component: its only other process helps until another job needs it."""
    both = dataclasses.replace(POOLED, operations=(*POOLED.operations, WINDOWS), replicas=2)
    adapters = dataclasses.replace(RESUMING, replicas=2)
    manifests = [{"stim_adapter": adapters, "matching_tracker": both}.get(each.name, each) for each in QEC]
    rig = Rig(*manifests)
    client = rig.client()
    rig.submit(client, shots=10, set={"workers": 3}, priority=5)
    other = rig.submit(client, shots=10, batch=5)
    steps = ("pytket_compile", "pytket_optimise", "stim_adapter", "surface_code", "stim_adapter", "grid_mapper")
    for component in steps:
        rig.work(component)
    trackers = [i.incarnation for i in rig.kernel.supervisor.components["matching_tracker"].instances]
    first, second = (rig.read(plugin("matching_tracker", each), Type.LEASE).body for each in trackers)
    helper = {"track": second, "decode": first}[first["service"]]
    address = plugin("matching_tracker", trackers[0 if helper is first else 1])
    assert helper["op"] == "windows" and rig.kernel.jobs.active["1"].stage == "track.run"
    for component in steps[:2]:
        rig.work(component)
    adapter = [i.incarnation for i in rig.kernel.supervisor.components["stim_adapter"].instances][1]
    for component in ("stim_adapter", "surface_code", "stim_adapter", "grid_mapper"):
        if component == "stim_adapter":
            lease = rig.read(plugin(component, adapter), Type.LEASE).body
            kind = {"describe": "device", "calibrate": "calibration"}[lease["op"]]
            body = {"lease": lease["lease"], "epoch": lease["epoch"], "outputs": {kind: rig.put(client, b"of 2")}}
            assert rig.ask(plugin(component, adapter), Type.DONE, body).type is Type.ACK
        else:
            rig.work(component)
    revoke = rig.read(address, Type.REVOKE).body
    assert revoke["lease"] == helper["lease"]
    rig.tell(address, Type.REVOKED, {"lease": revoke["lease"], "epoch": revoke["epoch"]})
    lease = rig.read(address, Type.LEASE).body
    assert (lease["job"], lease["service"], lease["batch"]) == (other, "track", 0)
    document = rig.document(client, "1")
    assert (document["restarts"], document["shots_restarted"]) == (0, 0)


def test_how_many_workers_a_job_may_ask_for() -> None:
    rig = Rig(*crew(DECODER))
    client = rig.client()
    body = {"inputs": {"source": rig.put(client, b"program")}, "options": {"set": {"workers": "17"}}}
    assert rig.refusal(client, Type.JOB_SUBMIT, body) == "bad_input"
    body["options"] = {"set": {"workers": "16"}}
    assert rig.ask(client, Type.JOB_SUBMIT, body).type is Type.JOB_ACCEPTED


def test_what_a_manifest_may_say_of_a_pool() -> None:
    with pytest.raises(ManifestError, match=r"operation\.pool"):
        manifest("x", dataclasses.replace(TRACK, pool="rounds"))
    with pytest.raises(ManifestError, match=r"operation\.pool"):
        manifest("x", Operation("compile", "compile", pool="windows"))


# The daemon dies


def named(batch: Batch, *streams: dict[str, Any], **more: Any) -> dict[str, Any]:
    aides = [{"grant": stream["grant"], "epoch": stream["epoch"]} for stream in streams]
    return {**held(batch.inn), "aides": aides, **more}


def incarnations(rig: Rig) -> dict[str, int]:
    return {name: component.incarnation for name, component in rig.kernel.supervisor.components.items()}


def again(batch: Batch, *, without: tuple[str, ...] = (), **start: Any) -> dict[str, int]:
    """A new kernel, and everybody who does not take part says HELLO."""
    known = incarnations(batch.rig)
    there = tuple(each for each in survivors(batch.rig) if each.incarnation not in [known[name] for name in without])
    if without:
        batch.rig.reboot(survivors=there, **start)
    else:
        reboot(batch.rig, **start)
    for name in set(known) - {"stim_adapter", "matching_tracker", "decode_worker"}:
        greet(batch.rig, name, known[name])
    return known


def test_workers_outlive_the_daemon_with_their_batch() -> None:
    batch = Batch(workers=1)
    lease, before = batch.rig.lease("decode_worker"), list(batch.aides)
    known = again(batch)
    greet(batch.rig, "decode_worker", known["decode_worker"], held(lease))
    greet(batch.rig, "matching_tracker", known["matching_tracker"], named(batch, *batch.inn["aides"]))
    greet(batch.rig, "stim_adapter", known["stim_adapter"], held(batch.out))
    assert batch.aides == before and batch.quiet()
    assert not batch.rig.has_lease("decode_worker")
    batch.client = batch.rig.client()
    batch.end()


@pytest.mark.parametrize("heard", ["nobody", "another"])
def test_a_worker_that_the_tracker_has_not_heard_of_is_leased_anew(heard: str) -> None:
    batch = Batch(workers=1)
    lease = batch.rig.lease("decode_worker")
    streams = [] if heard == "nobody" else [{**batch.inn["aides"][0], "epoch": 7}]
    known = again(batch)
    greet(batch.rig, "decode_worker", known["decode_worker"], held(lease))
    greet(batch.rig, "matching_tracker", known["matching_tracker"], named(batch, *streams))
    greet(batch.rig, "stim_adapter", known["stim_adapter"], held(batch.out))
    batch.rig.give_up("decode_worker")
    assert batch.grant()["epoch"] == 2
    batch.client = batch.rig.client()
    batch.end()


def test_a_worker_that_has_heard_of_nothing_is_leased_anew() -> None:
    batch = Batch(workers=1)
    batch.rig.lease("decode_worker")
    known = again(batch)
    greet(batch.rig, "decode_worker", known["decode_worker"])
    assert batch.aides == [], "its host is away, and would not hear of the next one"
    greet(batch.rig, "matching_tracker", known["matching_tracker"], named(batch, *batch.inn["aides"]))
    greet(batch.rig, "stim_adapter", known["stim_adapter"], held(batch.out))
    assert batch.grant()["epoch"] == 2
    batch.client = batch.rig.client()
    batch.end()


def test_a_worker_that_died_with_the_daemon_costs_nobody_anything() -> None:
    batch = Batch(workers=1)
    known = again(batch, without=("decode_worker",))
    assert not batch.aides
    greet(batch.rig, "matching_tracker", known["matching_tracker"], named(batch, *batch.inn["aides"]))
    greet(batch.rig, "stim_adapter", known["stim_adapter"], held(batch.out))
    assert batch.grant()["epoch"] == 2
    batch.client = batch.rig.client()
    batch.end()


def test_a_worker_whose_manifest_is_gone_is_not_missed() -> None:
    batch = Batch(workers=1)
    known = again(batch, manifests=tuple(crew()))
    assert not batch.aides
    greet(batch.rig, "matching_tracker", known["matching_tracker"], named(batch, *batch.inn["aides"]))
    greet(batch.rig, "stim_adapter", known["stim_adapter"], held(batch.out))
    batch.client = batch.rig.client()
    batch.end()


def test_a_worker_left_over_from_a_batch_that_is_done_is_sent_away() -> None:
    batch = Batch(workers=1)
    lease = batch.rig.lease("decode_worker")
    batch.end()
    known = again(batch)
    greet(batch.rig, "decode_worker", known["decode_worker"], held(lease))
    address = Address(f"decode_worker/{known['decode_worker']}", b"r%d" % known["decode_worker"])
    assert batch.rig.read(address, Type.REVOKE).body["lease"] == lease["lease"]


def test_failures_are_remembered_across_a_reboot() -> None:
    batch = Batch(workers=1)
    for _ in range(MOST_FAILURES):
        batch.rig.fail("decode_worker", batch.rig.lease("decode_worker"), "internal")
    assert [batch.grant()["epoch"] for _ in range(MOST_FAILURES - 1)] == [2, 3]
    known = again(batch)
    greet(batch.rig, "decode_worker", known["decode_worker"])
    greet(batch.rig, "matching_tracker", known["matching_tracker"], named(batch))
    greet(batch.rig, "stim_adapter", known["stim_adapter"], held(batch.out))
    assert not batch.aides and batch.quiet()
    batch.client = batch.rig.client()
    batch.end()


def test_a_stray_death_of_a_process_whose_aide_was_taken_back_touches_nobody() -> None:
    batch = Batch(*crew(dataclasses.replace(DECODER, replicas=2)), workers=1)
    (first,) = batch.inn["aides"]
    (number,) = [each for each in incarnations_of(batch) if batch.rig.kernel.scheduler.leases.load(each)]
    batch.rig.feed(PeerGone(Channel.PLUGINS, batch.tracker, "disconnected"))
    greet(batch.rig, "matching_tracker", incarnations(batch.rig)["matching_tracker"], named(batch))
    assert batch.aides == [(first["grant"], 2)]
    batch.rig.feed(Exited(number, -11))
    assert batch.aides == [(first["grant"], 2)]
    batch.end()


def incarnations_of(batch: Batch) -> list[int]:
    return [instance.incarnation for instance in batch.rig.kernel.supervisor.components["decode_worker"].instances]
