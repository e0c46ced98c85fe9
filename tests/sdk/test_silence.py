# SPDX-License-Identifier: Apache-2.0
"""A real plugin that holds the interpreter's lock: at work it survives, asleep it is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from daemon_process import DaemonProcess

from qcosd.sdk.client import BlockingClient

MANIFEST = """
name = "holder"
version = "1"
argv = ["{python}", "{folder}/main.py"]
[[operation]]
service = "holder"
op = "hold"
consumes = ["how"]
produces = ["held"]
"""
PLUGIN = '''
import ctypes, math, re, time
from qcosd.sdk import Plugin

plugin = Plugin()


@plugin.operation("holder", "hold")
def hold(lease):
    """In its first life, keeps every other thread from running for longer than 3 heartbeats."""
    length = 24
    if lease.input("how") == b"asleep" and lease.epoch == 1:
        ctypes.PyDLL(None).sleep(600)
    if lease.input("how") == b"at work":
        spent = 0.0
        while spent < 0.2:  # one call into C, twice as long with each letter
            length, began = length + 1, time.monotonic()
            re.match("(a|a)*b", "a" * length)
            spent = time.monotonic() - began
        re.match("(a|a)*b", "a" * (length + math.ceil(math.log2(9.0 / spent))))
    return lease.result(outputs={"held": b"%d" % lease.epoch})


if __name__ == "__main__":
    plugin.main()
'''


@pytest.fixture()
def daemon() -> Iterator[DaemonProcess]:
    world = DaemonProcess()
    folder = world.top / "plugins" / "holder"
    folder.mkdir()
    (folder / "plugin.toml").write_text(MANIFEST)
    (folder / "main.py").write_text(PLUGIN)
    try:
        yield world.start()
    finally:
        world.close()


@pytest.mark.long
@pytest.mark.parametrize(("how", "lives"), [(b"at work", 1), (b"asleep", 2)])
def test_a_silent_plugin_is_judged_by_its_use_of_the_cpu(daemon: DaemonProcess, how: bytes, lives: int) -> None:
    said: list[dict[str, Any]] = []
    with BlockingClient(runtime_dir=daemon.runtime) as client:
        job = client.submit({"target": "held"}, {"how": client.put(how)})
        for event in client.events(["plugin.holder", f"job.{job}"], timeout=120.0):
            if event.topic == "plugin.holder":
                said.append(event.state)
            elif event.state["state"] in ("done", "failed"):
                break
        document = client.job(job)
        assert document["state"] == "done", document
        assert client.get(document["artifacts"]["held"]) == b"%d" % lives
    assert len({row["incarnation"] for row in said if row["state"] == "ready"}) == lives
    causes = [row["cause"] or "" for row in said]
    assert any(cause.startswith("busy: " if lives == 1 else "silent: ") for cause in causes), causes
