# SPDX-License-Identifier: Apache-2.0
"""A plugin as a process: the operations that it offers, and its life from the boot descriptor to the exit code.

    plugin = Plugin()

    @plugin.operation("hello", "greet")
    def greet(lease):
        return lease.result(outputs={"greeted": greeting(lease.input("greeting"))})

    if __name__ == "__main__":
        plugin.main()

A plain function runs in a worker thread and may block; an ``async def`` runs in the plugin's loop with its inputs
already fetched, and must not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import zmq

from qcosd.protocol import ProtocolError
from qcosd.sdk.boot import BootMap, NotStartedByKernel, read_boot_map
from qcosd.sdk.dealer import Dealer, Readable
from qcosd.sdk.errors import Revoked
from qcosd.sdk.host import Host, Operation, Surroundings
from qcosd.sdk.lease import Lease
from qcosd.sdk.plugin_session import BUS_GRACE, FaultAsked, PluginHappening, PluginSession, StopAsked
from qcosd.sdk.printed import LOG, print_at_best
from qcosd.sdk.session import Welcomed

F = TypeVar("F", bound=Callable[..., Any])

STOP_PATIENCE = 1.0
"""Seconds that operations have to notice that the plugin stops; the kernel's ladder waits longer."""

EXIT_BUG = 70
EXIT_USAGE = 2
_LAST_WORDS = 0.2  # seconds for GOODBYE to leave


class Plugin:
    """See the module.  ``bus_grace``: seconds without the kernel after which the plugin makes itself safe and stops."""

    def __init__(self, bus_grace: float = BUS_GRACE) -> None:
        self.bus_grace = bus_grace
        self.operations: dict[str, Operation] = {}
        self.configuration: dict[str, Any] = {}
        self.preparation: Callable[[], None] | None = None
        self.last_act: Callable[[], None] | None = None

    def operation(self, service: str, op: str, concurrency: int = 1) -> Callable[[F], F]:
        """Offer ``service.op``: the decorated function takes a Lease and returns ``lease.result(...)``.

        It raises Refused or Interrupt where the work cannot be done; any other exception is reported as ``internal``.
        ``concurrency``: how many of its leases may run at a time.
        """

        def offer(function: F) -> F:
            name = f"{service}.{op}"
            if name in self.operations:
                raise ValueError(f"{name} is offered twice")
            self.operations[name] = Operation(function, concurrency)
            return function

        return offer

    def prepare(self, function: Callable[[], None]) -> Callable[[], None]:
        """Run once in a worker thread before the first lease (slow imports, caches); ``configuration`` is there then."""
        self.preparation = function
        return function

    def closing(self, function: Callable[[], None]) -> Callable[[], None]:
        """Run before the plugin leaves, however it does so in order: make the hardware safe here."""
        self.last_act = function
        return function

    @property
    def slots(self) -> int:
        """Leases that the plugin takes at a time."""
        return max((operation.concurrency for operation in self.operations.values()), default=1)

    def hello(self, name: str, incarnation: int) -> dict[str, Any]:
        """The body of its HELLO."""
        return {
            "name": name,
            "incarnation": incarnation,
            "services": sorted(self.operations),
            "slots": self.slots,
            "ready": self.preparation is None,
        }

    def main(self) -> NoReturn:
        """Live until the kernel says stop.  Does not return: the process exits."""
        print_at_best()
        try:
            boot = read_boot_map()
        except NotStartedByKernel as error:
            sys.exit(_complain(str(error), EXIT_USAGE))
        life = _Life(self, boot)
        try:
            code = asyncio.run(life.run())
        except Exception:  # noqa: BLE001 - the last place where it can be told
            LOG.exception("a bug ends the plugin")
            code = EXIT_BUG
        sys.stdout.flush()
        sys.stderr.flush()
        if life.stuck:
            os._exit(code)  # a thread sits in foreign code: leaving in order would wait for it
        sys.exit(code)


def _complain(text: str, code: int) -> int:
    sys.stderr.write(text + "\n")
    return code


class _Life:
    """One incarnation: the loop, the bus socket, the timer."""

    def __init__(self, plugin: Plugin, boot: BootMap) -> None:
        self._plugin = plugin
        self._boot = boot
        self.stuck = False
        self._preparation = plugin.preparation
        self._preparing = False

    async def run(self) -> int:
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[int] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.set_exception_handler(self._bug)
        boot, plugin = self._boot, self._plugin
        now = time.monotonic()
        hello = plugin.hello(boot.component, boot.incarnation)
        self._session = PluginSession(hello, now, plugin.bus_grace)
        around = Surroundings(self._post, self._flush, time.monotonic, self._run_coroutine)
        self._host = Host(plugin.operations, self._session, around)
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(signum, self._stop, f"got {signal.Signals(signum).name}", 0)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._dealer = Dealer(self._context, boot.endpoint, boot.identity, boot.token, immediate=True)
        self._readable = Readable(self._loop, self._dealer.socket, self._receive)
        self._monitored = Readable(self._loop, self._dealer.monitor, self._receive)
        self._session.lost(now)
        self._flush()
        try:
            return await self._over
        finally:
            await self._leave()

    def _bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Where a callback broke, which is the SDK's own, no good comes of going on."""
        loop.default_exception_handler(context)
        if "handle" in context:
            self._stop(f"a bug: {context.get('message')}", EXIT_BUG)

    def _post(self, function: Callable[[], None]) -> None:
        # The loop may be closed: then the process is about to exit and nobody waits for this.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def _flush(self) -> None:
        self._notice()  # what was meant for a kernel that has died is not for the next one
        self._dealer.send(self._session.outgoing())
        self._readable.look()
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = self._session.next_deadline()
        delay = 1.0 if at is None else max(0.0, at - time.monotonic())
        self._timer = self._loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        while self._receive():
            pass  # what has arrived in time counts as in time
        self._handle(self._session.elapse(time.monotonic()))

    def _receive(self) -> bool:
        self._dealer.flush()  # before reading, which notices all that this call may have swallowed
        frames = self._dealer.receive()
        # libzmq tells of a connection before its first message is there.  A second HELLO over the same one would make
        # this side ignore what the first has brought.
        if self._notice():
            self._flush()
        if frames is None:
            return False
        try:
            happenings = self._session.handle(frames, time.monotonic())
        except ProtocolError as error:
            self._stop(f"the kernel broke the protocol: {error}", EXIT_BUG)
            return False
        self._handle(happenings)
        return True

    def _notice(self) -> bool:
        """libzmq connects again by itself.  Whoever is there now has not been greeted yet."""
        there = self._dealer.changed()
        if there is None:
            return False
        self._dealer.forget()
        if there:
            self._session.hello(time.monotonic())
        else:
            self._session.lost(time.monotonic())
        return True

    def _handle(self, happenings: list[PluginHappening]) -> None:
        for happening in self._host.handle(happenings):
            match happening:
                case Welcomed(body=body):
                    self._plugin.configuration = body.get("configuration", {})
                    self._prepare()
                case FaultAsked(kind=kind, seconds=seconds):
                    self._fault(kind, seconds)
                case StopAsked(reason=reason, code=code):
                    self._stop(reason, code)
        self._flush()

    def _prepare(self) -> None:
        preparation, self._preparation = self._preparation, None
        if preparation is None:
            return
        self._preparing = True

        def prepared(failed: bool) -> None:
            self._preparing = False
            if failed:
                self._stop("its preparation failed", EXIT_BUG)
            else:
                self._session.ready()
                self._flush()

        def prepare() -> None:
            failed = True
            try:
                preparation()
                failed = False
            except Exception:  # noqa: BLE001 - the plugin is of no use then, and its log says why
                LOG.exception("the preparation has failed")
            finally:
                self._post(lambda: prepared(failed))

        threading.Thread(target=prepare, name="prepare", daemon=True).start()

    def _fault(self, kind: str, seconds: float) -> None:
        if kind == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "hang":
            while True:  # on purpose in the loop: nothing is read, nothing is sent
                time.sleep(seconds or 3600.0)
                if seconds:
                    return
        else:
            self._host.slow = seconds

    def _stop(self, reason: str, code: int) -> None:
        if not self._over.done():
            LOG.info("%s: stopping: %s", self._boot.identity, reason)
            self._host.revoke_all(f"the plugin stops: {reason}")
            self._over.set_result(code)

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, Any], lease: Lease) -> Any:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        lease.on_revoke(future.cancel)
        try:
            return future.result()
        except BaseException:
            if lease.cancelled.is_set():
                raise Revoked("the coroutine was cancelled") from None
            raise

    async def _leave(self) -> None:
        idle = asyncio.Event()
        self._host.when_idle(idle.set)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(idle.wait(), STOP_PATIENCE)
        self.stuck = self._host.busy > 0 or self._preparing
        if self._plugin.last_act is not None:
            try:
                self._plugin.last_act()
            except Exception:  # noqa: BLE001 - it leaves all the same
                LOG.exception("the last act has failed")
        if self._timer is not None:
            self._timer.cancel()
        self._readable.close()
        self._monitored.close()
        self._session.goodbye("stopped", self._over.result() if self._over.done() else 0)
        self._dealer.send(self._session.outgoing())
        self._dealer.close(_LAST_WORDS)
        if not self.stuck:
            self._context.term()  # waits for the last words, and for what streams still have to send
