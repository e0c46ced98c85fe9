# SPDX-License-Identifier: Apache-2.0
"""What the kernel shows an operator."""

from __future__ import annotations

from kernel_rig import HELLO, QEC, Rig

from qcosd.core.effects import LogRead
from qcosd.core.events import LogTail, Space
from qcosd.protocol import Type


def test_a_component_with_what_it_has_in_hand() -> None:
    rig = Rig(HELLO)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    rig.advance(2.5)
    document = rig.ask(client, Type.PLUGIN_SHOW, {"plugin": "hello"}).body["document"]
    (row,) = document["instances"]
    assert (row["name"], row["role"], row["state"], row["incarnation"]) == ("hello", "active", "ready", 1)
    assert row["leases"] == [
        {"lease": 1, "epoch": 1, "job": job, "op": "hello.greet", "batch": None, "age": 2.5, "revoked": False}
    ]
    assert document["services"]["hello.greet"]["produces"] == ["greeted"]
    assert document["restart"]["max_deaths"] == 5
    rig.work("hello")
    document = rig.ask(client, Type.PLUGIN_SHOW, {"plugin": "hello"}).body["document"]
    assert document["instances"][0]["leases"] == []
    assert rig.refusal(client, Type.PLUGIN_SHOW, {"plugin": "nobody"}) == "no_such_plugin"


def test_the_end_of_a_log_is_read_by_the_shell_and_answers_all_who_asked() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    asked = [rig.request(client, Type.PLUGIN_LOGS, {"plugin": "hello", "lines": n}) for n in (2, 2, 3)]
    assert rig.of(LogRead) == [LogRead("hello", 2), LogRead("hello", 2), LogRead("hello", 3)]
    rig.feed(LogTail("hello", 2, ("one", "two")))
    assert [[m.body["lines"] for m in rig.answers(client, number)] for number in asked] == [
        [["one", "two"]], [["one", "two"]], [],
    ]  # fmt: skip
    rig.request(client, Type.PLUGIN_LOGS, {"plugin": "hello", "lines": 10**9})
    assert rig.of(LogRead)[-1] == LogRead("hello", 1000), "an answer fits into a message"
    for stranger in ("x", "hello:2", "hello:1"):  # the first instance goes by the name of the component
        assert rig.refusal(client, Type.PLUGIN_LOGS, {"plugin": stranger}) == "no_such_plugin"


def test_status_tells_journal_space_and_who_was_adopted() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    rig.advance(3.0)
    first = rig.ask(client, Type.STATUS).body
    assert (first["uptime"], first["adopted"], first["space"]) == (3.0, [], {})
    assert first["journal"] == {"position": rig.position, "fault": "", "rolled_back": ""}
    rig.feed(Space(5, 9))
    assert rig.ask(client, Type.STATUS).body["space"] == {"free": 5, "total": 9}


def test_a_loss_is_accepted_once() -> None:
    rig = Rig(HELLO, rolled_back="it ends at 3")
    client = rig.client()
    assert rig.ask(client, Type.STATUS).body["journal"]["rolled_back"] == "journal rolled back: it ends at 3"
    assert rig.state("hello") == "down"
    assert rig.ask(client, Type.ACCEPT_LOSS).type is Type.ACK
    assert rig.state("hello") == "ready"
    records = len(rig.records)
    assert rig.ask(client, Type.ACCEPT_LOSS).type is Type.ACK
    assert len(rig.records) == records
    assert rig.ask(client, Type.STATUS).body["journal"]["rolled_back"] == ""


def test_a_plan_gives_artifacts_providers_batch_and_facts() -> None:
    rig = Rig(*QEC)
    old = rig.submit(client := rig.client(), shots=30, batch=64)
    for component in ("pytket_compile", "pytket_optimise", "stim_adapter"):
        rig.work(component)
    rig.work("surface_code", batch_limit=10)
    for component in ("stim_adapter", "grid_mapper"):
        rig.work(component)

    def batches() -> None:
        for _ in range(3):
            hardware = rig.lease("stim_adapter")
            rig.work("matching_tracker", {"sum": {"counts": {"0": 10}}})
            rig.done("stim_adapter", hardware)

    batches()
    document = rig.document(client, old)
    plan = {**document["plan"], "facts": document["facts"]}
    assert (document["state"], plan["batch"], plan["batches"]) == ("done", 10, 3)
    new = rig.submit(client, shots=30, batch=64, plan=plan)
    assert "plan" not in rig.lease("matching_tracker")["options"], "plugins have no use for it"
    rig.reboot()
    client = rig.client("c2")
    for _ in range(3):
        hardware = rig.lease("stim_adapter")
        rig.work("matching_tracker", {"sum": {"counts": {"0": 10}}})
        rig.done("stim_adapter", hardware)
    followed = rig.document(client, new)
    assert (followed["state"], followed["plan"], followed["facts"]) == ("done", document["plan"], document["facts"])


def test_a_plan_waits_for_its_own_providers() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "hello"})
    rig.kill("hello", 0)
    job = rig.submit(client, "greeting", target="greeted", plan={"providers": {"hello.greet": "hello"}})
    assert rig.document(client, job)["state"] == "held"
    for plan in (7, {"artifacts": 7}, {"providers": {"a": 1}}, {"batch": -1}, {"batch": "7"}, {"facts": {"a": 1}}):
        body = {"inputs": {"greeting": rig.put(client, b"x")}, "options": {"plan": plan}}
        assert rig.refusal(client, Type.JOB_SUBMIT, body) == "bad_input", plan
