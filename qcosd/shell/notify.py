# SPDX-License-Identifier: Apache-2.0
"""The service manager's notification socket: READY, STOPPING, STATUS, WATCHDOG. Silent where there is none."""

import contextlib
import os
import socket
from collections.abc import Mapping, MutableMapping


class ServiceManager:
    """Speaks sd_notify(3) to whoever started the daemon. Never blocks and never fails: the daemon works the same without it."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        # The variables are taken away so that plugins cannot speak in the daemon's name.
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog = environment.pop("WATCHDOG_USEC", "")
        watched = environment.pop("WATCHDOG_PID", "")
        self._socket: socket.socket | None = None
        self.watchdog_interval: float | None = None  # seconds between two WATCHDOG messages
        if not address:
            return
        if address.startswith("@"):
            address = "\0" + address[1:]
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):
            self._socket.connect(address)
        if watchdog.isdigit() and watched in ("", str(os.getpid())):
            self.watchdog_interval = int(watchdog) / 3e6

    def tell(self, fields: Mapping[str, str]) -> None:
        """Send assignments such as {"READY": "1", "STATUS": "serving"}."""
        self._send("\n".join(f"{name}={value}" for name, value in fields.items()))

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send(message.encode())
