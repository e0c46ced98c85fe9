# SPDX-License-Identifier: Apache-2.0
"""Who may connect: answers libzmq's ZAP requests (RFC 27) in the daemon's own loop.

PLAIN is used on ipc, inside a directory that only the daemon's group can enter. A plugin proves the 32-byte token of its
incarnation, a client the content of the client token file. The User-Id given here travels with every message of the connection
and cannot be forged by the peer: it is the identity that the kernel sees.
"""

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Callable

import zmq

from qcosd.shell.drain import Drain

ENDPOINT = "inproc://zeromq.zap.01"
CLIENT_NAME = "client"  # the PLAIN user name of every client
PLUGINS_DOMAIN = "plugins"
CLIENTS_DOMAIN = "clients"
EVENTS_DOMAIN = "events"
_DOMAINS_OF_CLIENTS = (CLIENTS_DOMAIN, EVENTS_DOMAIN)
_VERSION = b"1.0"
_BUDGET = 32
_REFUSALS_KEPT = 10_000  # distinct peers in cool-down; the oldest is forgotten first


class Authenticator:
    """The ZAP handler of a context. Create it before any server socket is bound, close it after they are closed.

    `clock()` gives monotonic seconds. `refused` counts handshakes that were turned down.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        client_token: bytes,
    ) -> None:
        self._clock = clock
        self._client_token = client_token
        self._plugin_digests: dict[str, str] = {}
        self._cooling: dict[str, float] = {}  # identity or peer address -> end of its cool-down
        self.refused = 0
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ENDPOINT)
        self._drain = Drain(loop, self._socket, self._receive, _BUDGET)

    def admit(self, identity: str, digest: str) -> None:
        """Let the incarnation `identity` connect with the token of which this is the digest (PLAIN user name and password).

        The digest is all that is kept: the journal has it too, and who reads the journal must not be able to connect.
        """
        self._plugin_digests[identity] = digest

    def revoke(self, identity: str) -> None:
        """Forget the token of an incarnation that ended. Its open connections are not touched."""
        self._plugin_digests.pop(identity, None)
        self._cooling.pop(identity, None)

    def refuse(self, peer: str, seconds: float) -> None:
        """Turn down new connections of `peer` for a while: an identity for plugins, a peer address for clients.

        A client is refused by its process (the peer address names it) and not by its user: one broken script must not lock
        out the operator who has to stop it.
        """
        self._cooling.pop(peer, None)
        if len(self._cooling) >= _REFUSALS_KEPT:
            del self._cooling[next(iter(self._cooling))]
        self._cooling[peer] = self._clock() + seconds

    def close(self) -> None:
        self._drain.close()
        self._socket.close(0)

    def _receive(self) -> bool:
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        # routing id, empty delimiter, version, request id, domain, address, routing id of the peer, mechanism, credentials
        routing, delimiter, version, request, domain, address, _, mechanism, *credentials = frames
        identity, cooling = self._identity_of(version, domain, address, mechanism, credentials)
        if identity is None:
            self.refused += 1
            status, text, user = b"400", b"refused", b""
        elif cooling:
            # 400 would make the peer's libzmq give up for good; after 300 it tries again by itself.
            self.refused += 1
            status, text, user = b"300", b"later", b""
        else:
            status, text, user = b"200", b"OK", identity.encode()
        reply = [routing, delimiter, _VERSION, request, status, text, user, b""]
        with contextlib.suppress(zmq.ZMQError):  # the connection may be gone already
            self._socket.send_multipart(reply, zmq.NOBLOCK)
        return True

    def _identity_of(
        self, version: bytes, domain: bytes, address: bytes, mechanism: bytes, credentials: list[bytes]
    ) -> tuple[str | None, bool]:
        """Who it is, None where that is not proved, and whether it is in its cool-down."""
        if version != _VERSION or mechanism != b"PLAIN" or len(credentials) != 2:
            return None, False
        try:
            area, peer, name = domain.decode("ascii"), address.decode("ascii"), credentials[0].decode("ascii")
        except UnicodeDecodeError:
            return None, False
        password = credentials[1]
        if area in _DOMAINS_OF_CLIENTS:
            known = name == CLIENT_NAME and hmac.compare_digest(password, self._client_token)
            return (f"uid:{uid_of(peer)}", self._is_cooling(peer)) if known else (None, False)
        if area == PLUGINS_DOMAIN:
            known = hmac.compare_digest(digest_of(password), self._plugin_digests.get(name, ""))
            return (name, self._is_cooling(name)) if known else (None, False)
        return None, False

    def _is_cooling(self, peer: str) -> bool:
        end = self._cooling.get(peer)
        if end is None:
            return False
        if self._clock() >= end:
            del self._cooling[peer]
            return False
        return True


def digest_of(token: bytes) -> str:
    """What is kept of a token: it proves the token and cannot be used in its place."""
    return hashlib.sha256(token).hexdigest()


def uid_of(peer_address: str) -> str:
    """The user id in libzmq's address of an ipc peer, `host:uid:gid:pid` (from SO_PEERCRED); "?" where there is none."""
    parts = peer_address.split(":")
    return parts[1] if len(parts) == 4 and parts[1].isdigit() else "?"
