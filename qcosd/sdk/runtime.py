# SPDX-License-Identifier: Apache-2.0
"""Where the daemon is, and whether it is there: the runtime directory, its lock, its client token."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qcosd.sdk.errors import SdkError

SERVICE_DIR = Path("/run/qcos")
ENVIRONMENT = "QCOS_RUNTIME_DIR"
CLIENTS_SOCKET = "clients.sock"
EVENTS_SOCKET = "events.sock"
TOKEN_FILE = "client.token"
LOCK_FILE = "qcosd.lock"
UNIT_DIR = Path("/etc/systemd/system")

_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for the disk",
    "T": "stopped",
    "t": "being traced",
    "Z": "dead, not reaped",
    "X": "dead",
    "I": "idle",
}


@dataclass(frozen=True)
class Presence:
    """What can be seen of a daemon without talking to it.

    ``absent``: no socket, nobody holds the lock, no enabled unit would start one.  ``pid``: of the last one, from the
    lock, None if unknown.  ``state``: that process's state, or why there is none, in words.
    """

    absent: bool
    pid: int | None
    state: str


def candidates(environment: Mapping[str, str] | None = None) -> list[Path]:
    """The directories to look in, the first choice first; ``QCOS_RUNTIME_DIR`` is the only one if it is set."""
    env = os.environ if environment is None else environment
    if env.get(ENVIRONMENT):
        return [Path(env[ENVIRONMENT])]
    user = env.get("XDG_RUNTIME_DIR")
    if user:
        return [SERVICE_DIR, Path(user) / "qcos"]
    own = Path(f"/tmp/qcos-{os.geteuid()}")
    return [SERVICE_DIR, own] if os.geteuid() and _is_ours(own) else [SERVICE_DIR]


def find_runtime_dir(explicit: str | os.PathLike[str] | None = None) -> Path:
    """The directory of the daemon to talk to: ``explicit``, else the first candidate that has a daemon, else the last.

    The last one is where a user would start a daemon of their own.
    """
    if explicit is not None:
        return Path(explicit)
    places = candidates()
    for place in places:
        if not probe(place).absent:
            return place
    return places[-1]


def probe(runtime_dir: str | os.PathLike[str]) -> Presence:
    """Look at a runtime directory.  Never blocks and sends nothing."""
    place = Path(runtime_dir)
    held, pid = _lock(place / LOCK_FILE)
    socket = _exists(place / CLIENTS_SOCKET)
    if held:
        return Presence(False, pid, process_state(pid) if pid is not None else "holds the lock")
    if socket:
        return Presence(False, pid, "not running, its socket was left behind")
    if place == SERVICE_DIR and _unit_enabled():
        return Presence(False, pid, "qcosd.service is enabled but not up")
    return Presence(True, pid, "not running")


def process_state(pid: int) -> str:
    """The state of a process in words."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "not running"
    letter = stat.rpartition(")")[2].split()[0]
    return _STATES.get(letter, f"in state {letter}")


def client_token(runtime_dir: str | os.PathLike[str]) -> str | None:
    """The password of local clients; None if there is none yet.  Raises SdkError if this user may not read it."""
    try:
        return (Path(runtime_dir) / TOKEN_FILE).read_text().strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise SdkError(f"this user may not use the daemon in {runtime_dir}: {TOKEN_FILE} is not readable") from None


def _exists(path: Path) -> bool:
    """True as well where this user may not look."""
    try:
        path.lstat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _is_ours(path: Path) -> bool:
    """Anybody may make a directory in /tmp under somebody else's name."""
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _lock(path: Path) -> tuple[bool, int | None]:
    """Is the lock held, and the pid that its holder wrote."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False, None
    try:
        words = os.read(descriptor, 64).split()
        pid = int(words[0]) if words and words[0].isdigit() else None
        try:
            # A shared lock, so that two clients that look at once do not take each other for a daemon.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES), pid
        return False, pid
    finally:
        os.close(descriptor)


def _unit_enabled() -> bool:
    return any(UNIT_DIR.glob("*.wants/qcosd.service")) or any(UNIT_DIR.glob("*.wants/qcosd.socket"))
