# SPDX-License-Identifier: Apache-2.0
"""The examination of plugins by third parties: hello passes, and each broken plugin is caught by its rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from qcos_plugins.hello import main

from qcosd.sdk import conformance, kernel_deaths
from qcosd.sdk.conformance import RULES, examine

MANIFEST = """
name = "broken"
version = "1"
argv = ["{python}", "{folder}/main.py"]
readiness_timeout = 5.0
[stop]
ask = 1.0
term = 1.0
[[operation]]
service = "hello"
op = "greet"
consumes = ["greeting"]
produces = ["greeted"]
"""


def test_hello_keeps_the_protocol(capfd: pytest.CaptureFixture[str]) -> None:
    folder = Path(main.__file__).parent
    assert conformance.main([str(folder)]) == 0
    assert len(capfd.readouterr().out.splitlines()) == len(RULES)


PLUGIN = """
from qcosd.sdk import Plugin, Refused
from functools import partial
from qcosd.sdk import calls, plugin_session, plugin as shell, host
plugin = Plugin()

@plugin.operation("hello", "greet")
def greet(lease):
    lease.input("greeting")

BREAK
if __name__ == "__main__":
    plugin.main()
"""


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ("plugin.operations.clear()", "says HELLO with"),
        ("plugin_session.PluginSession.goodbye = lambda self, *about: None", "leaves on STOP"),
        ("shell._Life._stop = lambda self, reason, code: self._over.set_result(9)", "leaves on STOP"),
        ("plugin_session.PluginSession.revoked = lambda self, lease, epoch: None", "gives up a lease"),
        ("plugin_session.PluginSession.elapse = lambda self, now: []", "gives signs of life"),
        ("plugin_session.PluginSession._on_revoke = lambda self, lease, epoch, reason: []", "answers REVOKE"),
        ("plugin_session.PluginSession._unregister = lambda self: None", "says HELLO again"),
        ("plugin_session.PluginSession._finish = lambda self, *result: None", "ends each lease"),
        ("plugin_session.PluginSession._hello_body = lambda self: self._hello", "keeps its leases"),
        (
            'plugin_session.PluginSession._hello_body = lambda s: {**s._hello, "boot": s.boot, "leases": []}',
            "keeps its leases",
        ),
        ("plugin_session.Request = partial(plugin_session.Request, again=False)", "repeats a result"),
        ("calls.Request = partial(calls.Request, again=False)", "keeps its leases"),
    ],
)
def test_a_broken_plugin_is_caught(damage: str, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "ANSWER", 0.5)
    monkeypatch.setattr(kernel_deaths, "ANSWER", 0.5)
    (tmp_path / "plugin.toml").write_text(MANIFEST)
    (tmp_path / "main.py").write_text(PLUGIN.replace("BREAK", damage))
    (finding,) = examine(tmp_path, only=rule)
    assert finding.fault


PRODUCER = """
from qcosd.protocol import Type
from qcosd.sdk import Plugin, plugin_session
plugin = Plugin()
REVOKED, STRAY = Type.REVOKED, {"lease": 77, "epoch": 1}

@plugin.operation("hello", "greet")
def greet(lease):
    lease.input("greeting")

BREAK
if __name__ == "__main__":
    plugin.main()
"""


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("", ""),
        ("plugin_session.PluginSession._on_grant = lambda self, *grant: []", "REVOKED for the GRANT"),
        (
            "plugin_session.PluginSession._on_grant = lambda self, *grant: self.post(REVOKED, STRAY) or []",
            "HELLO lists",
        ),
    ],
)
def test_a_producer_must_take_grants(damage: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_deaths, "ANSWER", 0.5)
    text = MANIFEST.replace('produces = ["greeted"]', 'produces = ["greeted"]\neach = "batch"\nstream_out = "rounds"')
    (tmp_path / "plugin.toml").write_text(text)
    (tmp_path / "main.py").write_text(PRODUCER.replace("BREAK", damage))
    (finding,) = examine(tmp_path, only="later grant")
    assert fault in finding.fault and bool(fault) == bool(finding.fault)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("", ""),
        ("plugin_session._streams = lambda held: {'stream': held.streams[held.grant]}", "HELLO names the aides {}"),
        ("plugin_session.PluginSession._on_grant = lambda self, *grant: []", "HELLO names the aides {3: 1, 4: 1}"),
    ],
)
def test_who_gives_work_away_must_list_its_aides(
    damage: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_deaths, "ANSWER", 2.0)
    pool = 'produces = ["greeted"]\neach = "batch"\nstream_in = "rounds"\npool = "windows"'
    (tmp_path / "plugin.toml").write_text(MANIFEST.replace('produces = ["greeted"]', pool))
    (tmp_path / "main.py").write_text(PRODUCER.replace("BREAK", damage))
    (finding,) = examine(tmp_path, only="aides")
    assert fault in finding.fault and bool(fault) == bool(finding.fault), finding.fault


CHECKER = """
from qcosd.sdk import Plugin, Refused
plugin = Plugin()

@plugin.operation("hello", "greet")
def greet(lease):
    data = lease.input("greeting")
    BODY

if __name__ == "__main__":
    plugin.main()
"""


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('raise Refused("wrong_input", "not text", {"kind": "greeting"})', ""),
        ('raise Refused("unsupported", "too long")', ""),
        ('raise Refused("wrong_input", "not text", {"kind": "greeted"})', "none of what it consumes"),
        ('raise Refused("wrong_input", "not text")', "none of what it consumes"),
        ("return lease.result()", "finds nothing wrong"),
    ],
)
def test_a_check_must_find_rubbish_and_say_where(body: str, fault: str, tmp_path: Path) -> None:
    text = MANIFEST.replace('produces = ["greeted"]', 'produces = []\nchecks = ["greeting"]')
    (tmp_path / "plugin.toml").write_text(text)
    (tmp_path / "main.py").write_text(CHECKER.replace("BODY", body))
    (finding,) = examine(tmp_path, only="rubbish")
    assert fault in finding.fault and bool(fault) == bool(finding.fault)


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["/nowhere"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
