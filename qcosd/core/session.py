# SPDX-License-Identifier: Apache-2.0
"""The handshake: HELLO and WELCOME."""

from __future__ import annotations

from qcosd.core.components import Instance
from qcosd.core.events import Address, Channel, Start
from qcosd.core.outbox import Outbox
from qcosd.core.peers import Peer, Peers
from qcosd.core.supervisor import Supervisor
from qcosd.protocol import CHUNK, HEARTBEAT, MAX_FRAME, VERSION, Message, ProtocolError, Type


class Session:
    """Registers peers. Authentication has been done below: the identity of an address can be trusted."""

    def __init__(self, outbox: Outbox, peers: Peers, supervisor: Supervisor, start: Start) -> None:
        self._outbox = outbox
        self._peers = peers
        self._supervisor = supervisor
        self._start = start

    def hello(self, channel: Channel, address: Address, known: Peer | None, message: Message, now: float) -> None:
        """Register a peer, or greet one again. Raises ProtocolError where it cannot be one."""
        body = message.body
        versions = body["versions"]
        if len(versions) != 2 or not versions[0] <= VERSION <= versions[1]:
            raise ProtocolError("unsupported_version", f"versions {versions}; this side speaks {VERSION}", message.id)
        instance = self._supervisor.of_identity(address.identity) if channel is Channel.PLUGINS else None
        if instance is not None:
            self._check_plugin(instance, message)
        if known is None:
            known = Peer(channel, address, body["name"], now)
            if instance is not None:
                known.incarnation, known.rights = instance.incarnation, frozenset(instance.component.manifest.rights)
            self._peers.add(known)
        known.heard = now
        self._outbox.send(channel, address, Type.WELCOME, self._welcome(instance), id=message.id)
        if instance is not None:
            self._supervisor.greeted(instance, address, body.get("slots", 1), body.get("ready", True), now)

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
            "version": VERSION,
            "boot": self._start.boot,
            "heartbeat": HEARTBEAT,
            "limits": {
                "chunk": CHUNK,
                "blob_window": limits.blob_window,
                "requests": limits.requests,
                "frame": MAX_FRAME,
            },
        }
        if instance is not None:
            body["incarnation"] = instance.incarnation
            body["configuration"] = self._start.configuration.get(instance.component.name, {})
        return body
