# SPDX-License-Identifier: Apache-2.0
"""The handshake: HELLO and WELCOME."""

from __future__ import annotations

from typing import Any

from qcosd.core.components import Instance
from qcosd.core.events import Address, Channel, Start
from qcosd.core.liveness import Liveness
from qcosd.core.outbox import Outbox
from qcosd.core.peers import Peer, Peers
from qcosd.core.reports import Reports
from qcosd.core.supervisor import Supervisor
from qcosd.protocol import CHUNK, HEARTBEAT, MAX_FRAME, VERSION, Message, ProtocolError, Type


class Session:
    """Registers peers. Authentication has been done below: the identity of an address can be trusted."""

    def __init__(self, outbox: Outbox, peers: Peers, supervisor: Supervisor, liveness: Liveness, reports: Reports, start: Start) -> None:  # fmt: skip
        self._outbox = outbox
        self._peers = peers
        self._supervisor = supervisor
        self._liveness = liveness
        self._reports = reports
        self._start = start

    def hello(self, channel: Channel, address: Address, known: Peer | None, message: Message, now: float) -> str:
        """Register a peer, or greet one again. What it knows and the journal does not, if anything. Raises ProtocolError where it
        cannot be a peer."""
        body = message.body
        versions = body["versions"]
        if len(versions) != 2 or not versions[0] <= VERSION <= versions[1]:
            raise ProtocolError("unsupported_version", f"versions {versions}; this side speaks {VERSION}", message.id)
        instance = self._supervisor.of_identity(address.identity) if channel is Channel.PLUGINS else None
        if instance is not None:
            self._check_plugin(instance, message)
        new = known is None
        if known is None:
            known = Peer(channel, address, body["name"], now)
            if instance is not None:
                known.incarnation, known.rights = instance.incarnation, frozenset(instance.component.manifest.rights)
            self._peers.add(known)
        known.heard = now
        self._outbox.send(channel, address, Type.WELCOME, self._welcome(instance), id=message.id)
        if instance is not None:
            self._supervisor.greeted(instance, address, body.get("slots", 1), body.get("ready", True), now)
            return self._take_up(instance, body, new, now)
        return ""

    def _take_up(self, instance: Instance, body: dict[str, Any], new: bool, now: float) -> str:
        """What a plugin has in hand, on a ``new`` connection."""
        held, seen = body.get("leases", []), body.get("boot", 0)
        if seen > self._start.boot:
            return f"{instance.name} has seen boot {seen}, and this is boot {self._start.boot}"
        self._liveness.watch(instance, now)
        if any(row["lease"] > self._reports.last for row in held):
            return f"{instance.name} holds a lease that was never given out"
        if new:
            self._reports.reconcile(instance, held, now)
        return ""

    def _check_plugin(self, instance: Instance, message: Message) -> None:
        body = message.body
        if body.get("incarnation", instance.incarnation) != instance.incarnation:
            raise ProtocolError("late", f"incarnation {body['incarnation']} is not {instance.incarnation}", message.id)
        operations = instance.component.manifest.operations
        missing = {operation.name for operation in operations} - set(body.get("services", ()))
        if missing:
            raise ProtocolError(
                "bad_message", f"the manifest promises {', '.join(sorted(missing))}; HELLO does not", message.id
            )

    def _welcome(self, instance: Instance | None) -> dict[str, object]:
        limits = self._start.limits
        body: dict[str, object] = {
            "version": VERSION, "boot": self._start.boot, "heartbeat": HEARTBEAT,
            "limits": {"chunk": CHUNK, "blob_window": limits.blob_window, "requests": limits.requests, "frame": MAX_FRAME},
        }  # fmt: skip
        if instance is not None:
            body["incarnation"] = instance.incarnation
            body["configuration"] = self._start.configuration.get(instance.component.name, {})
        return body
