# SPDX-License-Identifier: Apache-2.0
"""The daemon's directories: where they are, who may enter, and that private ones disappear.

The runtime directory (sockets, client token, stream endpoints) may be entered by the daemon's group: whoever can read the
client token is a client. The state directory (artifacts, logs) belongs to the daemon alone.
"""

import contextlib
import os
import secrets
import shutil
import socket
import stat
import tempfile
import time
from pathlib import Path

from qcosd.shell.lock import LOCK_NAME, DirectoryLock, LockHeld

# The address of a Unix socket has 107 bytes; the longest here is that of a stream, /streams/GRANT.EPOCH.
LONGEST_RUNTIME_PATH = 107 - len("/streams/") - 20
TOKEN_DIGITS = 64
_PRIVATE_PREFIX = "qcosd-"
_STALE_AFTER = 60.0  # seconds; a younger private directory may be one that is just being set up


class DirectoryError(Exception):
    """A directory cannot be used. The message says which and why."""


class Directories:
    """The runtime and the state directory, made if need be and locked. Raises LockHeld or DirectoryError.

    `embedded`: where none is given they are private temporary ones, and what was made here is removed by `close`.
    """

    def __init__(self, runtime: Path | None, state: Path | None, embedded: bool) -> None:
        self._made: list[Path] = []
        self._locks: list[DirectoryLock] = []
        self._embedded = embedded
        mode = 0o700 if embedded else 0o750
        if embedded and (runtime is None or state is None):
            remove_stale_private()
            private = Path(tempfile.mkdtemp(prefix=_PRIVATE_PREFIX, dir=_private_place()))
            self._made.append(private)
            runtime, state = runtime or private / "run", state or private / "state"
        self.runtime = (runtime or default_runtime_directory()).absolute()
        self.state = (state or default_state_directory()).absolute()
        if len(os.fsencode(self.runtime)) > LONGEST_RUNTIME_PATH:
            raise DirectoryError(
                f"{self.runtime}: the path of a runtime directory has at most {LONGEST_RUNTIME_PATH} bytes"
            )
        try:
            self._claim(self.runtime, mode)
            self._claim(self.state, 0o700)
            for path in (self.streams, self.artifacts, self.logs):
                path.mkdir(mode=0o700, exist_ok=True)
        except (LockHeld, DirectoryError):
            self.close()
            raise
        except OSError as error:
            self.close()
            raise DirectoryError(f"{error.filename or self.runtime}: {error.strerror}") from error

    @property
    def plugins_socket(self) -> Path:
        return self.runtime / "plugins.sock"

    @property
    def clients_socket(self) -> Path:
        return self.runtime / "clients.sock"

    @property
    def events_socket(self) -> Path:
        return self.runtime / "events.sock"

    def space(self) -> tuple[int, int]:
        """Bytes of the file system of the state directory: those that can still be used, and all. Raises OSError."""
        found = os.statvfs(self.state)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    @property
    def streams(self) -> Path:
        return self.runtime / "streams"

    @property
    def artifacts(self) -> Path:
        return self.state / "artifacts"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    def client_token(self) -> bytes:
        """The content of `client.token`, made if need be. It outlives the daemon, so that clients can reconnect to the next."""
        path = self.runtime / "client.token"
        with contextlib.suppress(OSError):
            token = path.read_bytes().strip()
            if len(token) == TOKEN_DIGITS and path.stat().st_uid == os.geteuid():
                return token
        token = secrets.token_hex(TOKEN_DIGITS // 2).encode()
        aside = path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(token + b"\n")
            os.fchmod(descriptor, 0o600 if self._embedded else 0o640)
        aside.replace(path)
        return token

    def open_sockets(self) -> None:
        """Let those who may enter the runtime directory connect. libzmq makes sockets with the umask, which shuts out all."""
        for path in (self.plugins_socket, self.clients_socket, self.events_socket):
            path.chmod(0o600 if self._embedded else 0o660)

    def clear_streams(self) -> None:
        """Remove stream sockets that nobody has open. Others are in use: streams go on while there is no daemon."""
        for path in self.streams.iterdir():
            if not _has_listener(path):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the directories and, if embedded, remove those that were made here.

        Sockets go while the lock is held, since libzmq leaves them: a client takes one for a daemon that does not answer.
        """
        if self._locks:
            for path in (self.plugins_socket, self.clients_socket, self.events_socket):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.clear_streams()  # a plugin that was killed has left its own
        if self._embedded:
            for path in reversed(self._made):
                shutil.rmtree(path, ignore_errors=True)
        for lock in self._locks:
            lock.release()
        self._locks.clear()

    def _claim(self, path: Path, mode: int) -> None:
        if not path.exists():
            path.mkdir(mode=mode, parents=True)
            self._made.append(path)
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise DirectoryError(f"{path}: is not a directory")
        if found.st_uid != os.geteuid():
            raise DirectoryError(f"{path}: belongs to uid {found.st_uid}, not to uid {os.geteuid()}")
        path.chmod(mode)
        if not any(lock.path.parent == path for lock in self._locks):
            self._locks.append(DirectoryLock(path))


def _has_listener(path: Path) -> bool:
    """Whether somebody would accept a connection; one that is frozen would, later."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as knock:
        knock.setblocking(False)
        try:
            knock.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # its queue is full
            return True
        return True


def default_runtime_directory() -> Path:
    """The service manager's, /run/qcos for root, or the user's."""
    if service := os.environ.get("RUNTIME_DIRECTORY"):
        return Path(service.split(":")[0])
    if os.geteuid() == 0:
        return Path("/run/qcos")
    if user := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(user) / "qcos"
    return Path(tempfile.gettempdir()) / f"qcos-{os.geteuid()}"


def default_state_directory() -> Path:
    """The service manager's, /var/lib/qcos for root, or the user's."""
    if service := os.environ.get("STATE_DIRECTORY"):
        return Path(service.split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/qcos")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "qcos"


def _private_place() -> Path:
    """The temporary directory, unless it is too deep for the address of a socket."""
    place = Path(tempfile.gettempdir())
    deepest = place / (_PRIVATE_PREFIX + "x" * 8) / "run"
    return place if len(os.fsencode(deepest)) <= LONGEST_RUNTIME_PATH else Path("/tmp")


def remove_stale_private() -> None:
    """Remove private directories of embedded daemons that were killed: those whose lock is free."""
    for private in _private_place().glob(f"{_PRIVATE_PREFIX}*"):
        lock = private / "run" / LOCK_NAME
        with contextlib.suppress(OSError, LockHeld):
            if lock.lstat().st_uid == os.geteuid() and time.time() - lock.lstat().st_mtime > _STALE_AFTER:
                held = DirectoryLock(lock.parent)
                shutil.rmtree(private, ignore_errors=True)
                held.release()
