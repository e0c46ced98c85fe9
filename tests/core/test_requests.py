# SPDX-License-Identifier: Apache-2.0
"""Sessions and requests: one answer each, idempotency, breaches, quota."""

from __future__ import annotations

import hashlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_rig import HELLO, Rig, manifest, plugin, received

from qcosd.core.calls import HANDLERS
from qcosd.core.effects import SIGSTOP, BlobWrite, Disconnect, Signal
from qcosd.core.events import Address, BlobWritten, Channel, Exited, Limits, PeerGone, Received, Stop
from qcosd.core.manifest import Operation
from qcosd.protocol import SPECS, Message, Side, Type

GREETER = manifest("hello", Operation("hello", "greet", (), ("greeted",)))
GREETING = {"inputs": {}, "options": {"target": "greeted"}}


def test_every_type_that_a_peer_may_send_has_a_handler() -> None:
    sendable = {kind for kind, spec in SPECS.items() if spec.senders & {Side.PLUGIN, Side.CLIENT}}
    assert set(HANDLERS) == sendable - {Type.HELLO}


def test_welcome() -> None:
    rig = Rig(HELLO, configuration={"hello": {"language": "en"}})
    welcome = rig.read(plugin("hello", 1), Type.WELCOME)
    assert (welcome.boot, welcome.body["boot"], welcome.body["incarnation"]) == (7, 7, 1)
    assert welcome.body["configuration"] == {"language": "en"}


def test_ping_is_a_barrier() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    rig.request(client, Type.STATUS)
    rig.request(client, Type.PING)
    assert [message.type for message in rig.inbox[client]] == [Type.STATUS_REPLY, Type.PONG]


def test_without_hello_there_is_rehello() -> None:
    rig = Rig()
    stranger = Address("uid:1000", b"x")
    assert rig.ask(stranger, Type.STATUS).type is Type.REHELLO
    client = rig.client()
    answer = rig.ask(client, Type.STATUS, boot=6)  # a frame from before the restart
    assert (answer.type, answer.body["boot"]) == (Type.REHELLO, 7)
    assert rig.ask(client, Type.STATUS, boot=0).type is Type.STATUS_REPLY
    assert rig.kernel.counters["unregistered"] == 2


def test_hello_may_be_repeated() -> None:
    rig = Rig(HELLO)
    rig.feed(rig.greeting("hello", 1))
    assert rig.state("hello") == "ready"
    assert [message.type for message in rig.inbox[plugin("hello", 1)]] == [Type.WELCOME, Type.WELCOME]


def test_a_second_connection_with_the_same_token_replaces_the_first() -> None:
    """The end of the first may not have been seen yet; nobody else has the token."""
    rig = Rig(HELLO)
    other = Address("hello/1", b"other")
    body = {"name": "hello", "versions": [1, 1], "services": ["hello.greet"]}
    rig.feed(received(other, Message(Type.HELLO, body, 1)))
    assert rig.read(other).type is Type.WELCOME
    rig.feed(PeerGone(Channel.PLUGINS, plugin("hello", 1), "disconnected"))
    assert rig.state("hello") == "ready"
    rig.submit(rig.client(), "greeting", target="greeted")
    assert rig.read(other, Type.LEASE)


@pytest.mark.parametrize("versions", [[2, 3], [0, 0], [1], []])
def test_no_common_version(versions: list[int]) -> None:
    rig = Rig()
    client = Address("uid:1", b"x")
    rig.feed(received(client, Message(Type.HELLO, {"name": "x", "versions": versions}, 1)))
    assert rig.read(client, Type.GOODBYE).body["error"]["name"] == "unsupported_version"
    assert [effect.address for effect in rig.of(Disconnect)] == [client]


def test_malformed_frames_disconnect_a_client() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    wait = rig.request(client, Type.JOB_WAIT, {"job": rig.submit(client, "greeting", target="greeted")})
    rig.feed(Received(Channel.CLIENTS, client, (b"\xc1", b"")))
    assert rig.read(client, Type.GOODBYE).body["error"]["name"] == "bad_message"
    assert rig.of(Disconnect)[0].address == client
    assert rig.answers(client, wait) == []
    assert (len(rig.kernel.requests), len(rig.kernel.quota)) == (0, 0)
    assert rig.ask(client, Type.STATUS).type is Type.REHELLO


def test_malformed_frames_cost_a_plugin_its_process() -> None:
    rig = Rig(HELLO)
    rig.feed(Received(Channel.PLUGINS, plugin("hello", 1), (b"", b"", b"")))
    assert [effect.signum for effect in rig.of(Signal)] == [9]
    rig.feed(Exited(1, -9))
    rig.advance(1.0)
    assert rig.state("hello") == "ready"


def test_unknown_type_is_an_error_and_no_breach() -> None:
    rig = Rig()
    client = rig.client()
    header = msgpack.packb({"v": 1, "boot": 7, "type": 399, "id": 5})
    rig.feed(Received(Channel.CLIENTS, client, (header, msgpack.packb({}))))
    assert rig.answers(client, 5)[0].body["error"]["name"] == "unknown_type"
    assert rig.ask(client, Type.PING).type is Type.PONG


def test_what_only_plugins_may_say() -> None:
    rig = Rig()
    client = rig.client()
    assert rig.refusal(client, Type.DONE, {"lease": 1, "epoch": 1, "outputs": {}}) == "not_allowed"


def test_an_id_in_use_is_a_breach() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = rig.submit(client, "greeting", target="greeted")
    rig.tell(client, Type.JOB_WAIT, {"job": job}, id=50)
    rig.tell(client, Type.STATUS, id=50)
    assert rig.read(client, Type.GOODBYE).body["error"]["name"] == "bad_message"


def test_wait_is_answered_at_the_end_or_at_its_deadline() -> None:
    rig = Rig(HELLO)
    client, other = rig.client("c1"), rig.client("c2")
    job = rig.submit(client, "greeting", target="greeted")
    early = rig.request(client, Type.JOB_WAIT, {"job": job}, deadline=2.0)
    late = rig.request(other, Type.JOB_WAIT, {"job": job})
    rig.advance(2.0)
    assert rig.answers(client, early)[0].body["error"]["name"] == "deadline"
    rig.advance(1000.0)
    assert rig.answers(other, late) == []
    assert rig.refusal(client, Type.JOB_RESULT, {"job": job}) == "not_finished"
    rig.work("hello")
    assert rig.answers(other, late)[0].body["document"]["state"] == "done"
    assert rig.ask(client, Type.JOB_WAIT, {"job": job}).body["document"]["state"] == "done"


def test_submit_is_idempotent_by_identity_and_key() -> None:
    rig = Rig(GREETER)
    alice, again, bob = rig.client("c1"), rig.client("c2"), rig.client("c3", uid=2000)
    first = rig.ask(alice, Type.JOB_SUBMIT, GREETING, key="k")
    assert rig.ask(again, Type.JOB_SUBMIT, GREETING, key="k").body == first.body
    other = {"inputs": {}, "options": {"target": "greeted", "seed": 1}}
    assert rig.refusal(alice, Type.JOB_SUBMIT, other, key="k") == "key_conflict"
    assert rig.refusal(alice, Type.SHUTDOWN, key="k") == "key_conflict"
    told = rig.ask(alice, Type.JOB_SUBMIT, other, key="k").body["error"]["message"]
    assert told == f"the key 'k' was used for a different request, that of job {first.body['job']}"
    assert rig.ask(bob, Type.JOB_SUBMIT, GREETING, key="k").body != first.body
    assert rig.ask(alice, Type.JOB_SUBMIT, GREETING, key="k2").body != first.body
    rig.advance(86_401.0)
    assert rig.ask(alice, Type.JOB_SUBMIT, GREETING, key="k").body == first.body  # as long as the job is remembered


def test_a_key_is_kept_as_long_as_its_job() -> None:
    rig = Rig(GREETER, limits=Limits(jobs_kept=1, keys_kept=1))
    client = rig.client()
    jobs = {key: rig.ask(client, Type.JOB_SUBMIT, GREETING, key=key).body["job"] for key in "abc"}
    for key in "ab":
        rig.ask(client, Type.JOB_CANCEL, {"job": jobs[key]})
    again = {key: rig.ask(client, Type.JOB_SUBMIT, GREETING, key=key).body["job"] for key in "bc"}
    assert again == {key: jobs[key] for key in "bc"}
    assert rig.ask(client, Type.JOB_SUBMIT, GREETING, key="a").body["job"] not in jobs.values()  # it was forgotten


def test_keys_of_other_requests_are_forgotten_after_a_day_or_when_there_are_too_many() -> None:
    rig = Rig(HELLO, limits=Limits(keys_kept=2))
    client = rig.client()
    for key in "abc":
        assert rig.ask(client, Type.DRAIN, {"on": True}, key=key).type is Type.ACK
    assert rig.refusal(client, Type.DRAIN, {"on": False}, key="b") == "key_conflict"
    assert rig.ask(client, Type.DRAIN, {"on": False}, key="a").type is Type.ACK  # the oldest
    rig.advance(86_401.0)
    assert rig.ask(client, Type.DRAIN, {"on": True}, key="a").type is Type.ACK


def test_a_refused_request_leaves_its_key_free() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    sha = hashlib.sha256(b"program").hexdigest()
    body = {"inputs": {"greeting": sha}, "options": {"target": "greeted"}}
    assert rig.refusal(client, Type.JOB_SUBMIT, body, key="k") == "no_such_artifact"
    rig.put(client, b"program")
    assert rig.ask(client, Type.JOB_SUBMIT, body, key="k").type is Type.JOB_ACCEPTED


def test_a_repeat_that_comes_before_the_reply_is_answered_with_it() -> None:
    rig = Rig(HELLO)
    client, other = rig.client("c1"), rig.client("c2")
    body = {"plugin": "hello"}
    first = rig.request(client, Type.PLUGIN_STOP, body, key="k", deadline=5.0)
    second = rig.request(other, Type.PLUGIN_STOP, body, key="k", deadline=50.0)
    third = rig.request(other, Type.PLUGIN_STOP, body, key="k", deadline=50.0)
    rig.advance(5.0)
    assert rig.answers(client, first)[0].body["error"]["name"] == "deadline"
    rig.kill("hello", status=0)
    assert [rig.answers(other, number)[0].type for number in (second, third)] == [Type.ACK, Type.ACK]


def test_repeats_outlive_the_first_requester() -> None:
    rig = Rig(HELLO)
    client, other = rig.client("c1"), rig.client("c2")
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "hello"}, key="k")
    second = rig.request(other, Type.PLUGIN_STOP, {"plugin": "hello"}, key="k")
    rig.feed(PeerGone(Channel.CLIENTS, client, "left"))
    rig.kill("hello", status=0)
    assert rig.answers(other, second)[0].type is Type.ACK


def test_too_many_requests() -> None:
    rig = Rig(HELLO, limits=Limits(requests=3))
    client = rig.client()
    job = rig.submit(client, "greeting", target="greeted")
    waits = [rig.request(client, Type.JOB_WAIT, {"job": job}) for _ in range(3)]
    assert rig.refusal(client, Type.STATUS) == "over_quota"
    rig.work("hello")
    assert all(rig.answers(client, number)[0].type is Type.JOB_DOCUMENT for number in waits)
    assert rig.ask(client, Type.STATUS).type is Type.STATUS_REPLY


def test_stopping_answers_everybody_who_waits() -> None:
    rig = Rig(GREETER)
    client = rig.client()
    job = rig.submit(client, "greeting", target="greeted")
    wait = rig.request(client, Type.JOB_WAIT, {"job": job})
    rig.feed(Stop("SIGTERM"))
    assert rig.answers(client, wait)[0].body["error"]["name"] == "shutting_down"
    assert rig.refusal(client, Type.JOB_WAIT, {"job": job}) == "shutting_down"
    assert rig.refusal(client, Type.JOB_SUBMIT, GREETING) == "shutting_down"


def test_draining() -> None:
    rig = Rig(GREETER)
    client = rig.client()
    rig.ask(client, Type.DRAIN, {"on": True})
    assert rig.refusal(client, Type.JOB_SUBMIT, GREETING) == "shutting_down"
    assert rig.ask(client, Type.STATUS).body["state"] == "draining"
    rig.ask(client, Type.DRAIN, {"on": False})
    assert rig.ask(client, Type.JOB_SUBMIT, GREETING).type is Type.JOB_ACCEPTED


def test_fault_injection_is_a_right() -> None:
    chaos = manifest("chaos", Operation("chaos", "run"), rights=("fault",))
    rig = Rig(HELLO, chaos)
    fault = {"plugin": "hello", "kind": "hang", "seconds": 3.0}
    assert rig.refusal(rig.address("hello"), Type.PLUGIN_FAULT, fault) == "not_allowed"
    assert rig.ask(rig.address("chaos"), Type.PLUGIN_FAULT, fault).type is Type.ACK
    assert rig.read(rig.address("hello"), Type.FAULT).body == {"kind": "hang", "seconds": 3.0}
    assert rig.refusal(rig.client(), Type.PLUGIN_FAULT, {"plugin": "nobody", "kind": "crash"}) == "no_such_plugin"


def test_freezing_is_a_signal_that_no_plugin_can_refuse() -> None:
    rig = Rig(HELLO)
    incarnation = rig.kernel.supervisor.components["hello"].incarnation
    assert rig.ask(rig.client(), Type.PLUGIN_FAULT, {"plugin": "hello", "kind": "freeze"}).type is Type.ACK
    assert Signal(incarnation, SIGSTOP) in rig.effects
    assert not [message for message in rig.inbox[rig.address("hello")] if message.type is Type.FAULT]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("shots", 0), ("shots", "many"), ("shots", 1.5), ("shots", True), ("seed", -1), ("batch", 0), ("priority", 5000),
        ("deadline", 0), ("deadline", "soon"), ("target", 3), ("set", [1]), ("set", {"credit": "0"}), ("set", {"credit": 99}),
        ("shots", "--5"), ("shots", "-"), ("seed", "9" * 5000), ("set", {"credit": "--1"}),
    ],
)  # fmt: skip
def test_bad_options_are_named(option: str, value: object) -> None:
    rig = Rig(GREETER)
    client = rig.client()
    answer = rig.ask(client, Type.JOB_SUBMIT, {"inputs": {}, "options": {"target": "greeted", option: value}})
    assert answer.body["error"]["name"] == "bad_input"
    assert option in answer.body["error"]["message"]


def test_a_setting_that_no_plugin_reads_is_refused() -> None:
    rig = Rig(manifest("hello", *HELLO.operations, settings=("word",)))
    client = rig.client()
    request = {
        "inputs": {"greeting": rig.put(client, b"you")},
        "options": {"target": "greeted", "set": {"wrod": "Salut"}},
    }
    error = rig.ask(client, Type.JOB_SUBMIT, request).body["error"]
    assert (error["name"], error["message"]) == (
        "bad_input",
        "set: no plugin knows wrod; known: credit, shadow, word, workers",
    )
    request["options"]["set"] = {"word": "Salut", "credit": "1"}
    assert rig.ask(client, Type.JOB_SUBMIT, request).type is Type.JOB_ACCEPTED


def test_cancel_is_final() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = rig.submit(client, "greeting", target="greeted")
    lease = rig.lease("hello")
    assert rig.ask(client, Type.JOB_CANCEL, {"job": job}).body["document"]["state"] == "cancelled"
    assert rig.read(plugin("hello", 1), Type.REVOKE)
    assert rig.done("hello", lease).body["error"]["name"] == "late"
    assert rig.ask(client, Type.JOB_CANCEL, {"job": job}).body["document"]["state"] == "cancelled"
    rig.tell(plugin("hello", 1), Type.REVOKED, {"lease": lease["lease"], "epoch": lease["epoch"]})
    assert len(rig.kernel.scheduler.leases) == 0


# Everything at once

MOVES = st.sampled_from(
    [
        "submit",
        "wait",
        "wait briefly",
        "stop",
        "start",
        "restart",
        "cancel",
        "put",
        "status",
        "leave",
        "die",
        "work",
        "tick",
        "written",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(MOVES, st.integers(0, 2)), max_size=40))
def test_every_request_ends_in_one_answer_and_nothing_leaks(moves: list[tuple[str, int]]) -> None:
    rig = Rig(HELLO)
    clients = [rig.client(f"c{i}") for i in range(3)]
    rig.put(clients[0], b"program")
    asked: dict[tuple[Address, int], int] = {}
    jobs: list[str] = ["none"]
    for step, (move, who) in enumerate(moves):
        client = clients[who]
        requests = {
            "wait": (Type.JOB_WAIT, {"job": jobs[-1]}, {}),
            "wait briefly": (Type.JOB_WAIT, {"job": jobs[-1]}, {"deadline": 0.5}),
            "stop": (Type.PLUGIN_STOP, {"plugin": "hello"}, {"key": f"stop{step // 4}"}),
            "start": (Type.PLUGIN_START, {"plugin": "hello"}, {}),
            "restart": (Type.PLUGIN_RESTART, {"plugin": "hello"}, {"deadline": 3.0}),
            "cancel": (Type.JOB_CANCEL, {"job": jobs[-1]}, {}),
            "status": (Type.STATUS, {}, {}),
            "put": (Type.BLOB_PUT, {"sha": f"{step:064x}", "size": 9}, {"payload": (b"abc",)}),
        }
        rig.hold_blobs = move == "put"
        if move in requests:
            kind, body, header = requests[move]
            asked[client, rig.request(client, kind, body, **header)] = 0
        elif move == "submit":
            jobs.append(rig.submit(client, "greeting", target="greeted"))
        elif move == "leave":
            rig.feed(PeerGone(Channel.CLIENTS, client, "left"))
            assert not any(m.type is Type.GOODBYE for m in rig.inbox[client])
            for address, number in [pair for pair in asked if pair[0] == client]:
                assert len(rig.answers(address, number)) <= 1
                del asked[address, number]
            clients[who] = rig.client(f"c{who}.{step}")
        elif move == "die":
            rig.kill("hello", noticed=who > 0)
        elif move == "work" and rig.state("hello") == "ready" and rig.has_lease("hello"):
            rig.done("hello", rig.lease("hello"))
        elif move == "written" and rig.held:
            effect = rig.held.pop(0)
            assert isinstance(effect, BlobWrite)
            rig.feed(BlobWritten(effect.ticket, effect.offset, "no_space" if who else None))
        elif move == "tick":
            rig.advance(0.3)
    rig.feed(Stop("the end"))
    if rig.kernel.supervisor.components["hello"].state in ("ready", "asked", "terminating", "starting"):
        rig.kill("hello")
    rig.advance(100_000.0)
    for address, number in asked:
        assert len(rig.answers(address, number)) == 1
    for client in clients:
        rig.feed(PeerGone(Channel.CLIENTS, client, "left"))
    assert (len(rig.kernel.requests), len(rig.kernel.quota), len(rig.kernel.blobs)) == (0, 0, 0)
    assert len(rig.kernel.scheduler.leases) == 0
