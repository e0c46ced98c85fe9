# SPDX-License-Identifier: Apache-2.0
"""Who has said HELLO in this boot."""

from __future__ import annotations

from dataclasses import dataclass

from qcosd.core.events import Address, Channel
from qcosd.protocol import Side


@dataclass(slots=True)
class Peer:
    """A registered connection."""

    channel: Channel
    address: Address
    name: str
    heard: float  # when its last message came
    incarnation: int = 0  # of a plugin
    rights: frozenset[str] = frozenset()  # of a plugin: what its manifest asks for

    @property
    def side(self) -> Side:
        """What the peer is for the protocol."""
        return Side.PLUGIN if self.channel is Channel.PLUGINS else Side.CLIENT


class Peers:
    """Registered peers by address, plugins also by incarnation."""

    def __init__(self) -> None:
        self._by_address: dict[Address, Peer] = {}
        self._by_incarnation: dict[int, Peer] = {}

    def add(self, peer: Peer) -> None:
        """Register a peer at an address where none is."""
        self._by_address[peer.address] = peer
        if peer.incarnation:
            self._by_incarnation[peer.incarnation] = peer

    def remove(self, peer: Peer) -> None:
        """Forget a peer."""
        self._by_address.pop(peer.address, None)
        if self._by_incarnation.get(peer.incarnation) is peer:
            del self._by_incarnation[peer.incarnation]

    def at(self, address: Address) -> Peer | None:
        """The peer registered at an address."""
        return self._by_address.get(address)

    def of_incarnation(self, incarnation: int) -> Peer | None:
        """The peer of an incarnation."""
        return self._by_incarnation.get(incarnation)

    def all(self) -> list[Peer]:
        """Every registered peer."""
        return list(self._by_address.values())
