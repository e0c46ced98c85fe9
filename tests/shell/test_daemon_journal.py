# SPDX-License-Identifier: Apache-2.0
"""The journal of a daemon: in order, damaged, cut off, and on a full disk."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from journal_world import freezing_disk, frozen, full, small_disk
from qcosd_process import Qcosd, wait_gone

from qcosd.core.records import RecordType
from qcosd.protocol import Type


def journal_of(daemon: Qcosd) -> list[tuple[int, int]]:
    """Position and type of the records of a daemon that has stopped."""
    with closing(sqlite3.connect(daemon.directory / "state" / "journal.db")) as db:
        return list(db.execute("SELECT position, type FROM records ORDER BY position"))


def test_what_a_daemon_appended_is_in_its_journal_when_it_has_stopped() -> None:
    with Qcosd() as first:
        first.client().plugin("hello")
        assert first.stop()[0] == 0
        before = journal_of(first)
        assert not (first.directory / "state" / "journal.db-wal").exists(), "closed in order"
        with Qcosd(directory=first.directory) as second:
            second.client()
            assert second.stop()[0] == 0
        after = journal_of(first)
    assert before[0] == (1, RecordType.BOOT) and after[: len(before)] == before
    assert after[len(before)] == (len(before) + 1, RecordType.BOOT)
    assert [position for position, _ in after] == list(range(1, len(after) + 1))


def test_a_damaged_journal_stops_the_daemon_with_a_remedy() -> None:
    with Qcosd() as first:
        assert first.stop()[0] == 0
        os.truncate(first.directory / "state" / "journal.db", 5000)
        with Qcosd(directory=first.directory) as second:
            code, log = second.wait()
            assert second.ready is None and code == 1
            assert "journal.db: is damaged" in log and "qcosctl doctor --accept" in log and "Traceback" not in log


def test_a_journal_that_has_lost_something_takes_no_new_work() -> None:
    with Qcosd() as first:
        first.client().plugin("hello")
        first.stop(signal.SIGKILL)
        os.truncate(first.directory / "state" / "journal.db-wal", 0)
        with Qcosd(directory=first.directory) as second:
            assert second.ready is not None and second.ready["boot"] == 2
            sha = hashlib.sha256(b"program").hexdigest()
            client = second.client()
            assert client.ask(Type.BLOB_PUT, b"program", sha=sha, size=7).type is Type.BLOB_STORED
            refusal = client.ask(Type.JOB_SUBMIT, key="k", inputs={"greeting": sha}, options={})
            assert refusal.type is Type.ERROR and refusal.body["error"]["name"] == "rolled_back"
            for words in ("journal.db: ends at position 0 of boot 0", "of boot 1", "qcosctl doctor --accept"):
                assert words in refusal.body["error"]["message"]
            assert second.stop()[0] == 0


def test_a_daemon_whose_disk_is_full_serves_and_can_be_stopped(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, Qcosd(f"--state-dir={disk}") as daemon:
        client = daemon.client()
        pid = client.plugin("hello")["pid"]
        with full(disk):
            os.kill(pid, signal.SIGKILL)
            assert wait_gone(pid)
            assert client.ask(Type.PING).type is Type.PONG
            while not (status := client.ask(Type.STATUS).body)["journal"]["fault"]:
                pass  # the first record that does not fit is on its way
            assert status["space"]["free"] < 4096, "as it is, and not as it was a while ago"
            code, log = daemon.stop()
        assert code == 0 and "Traceback" not in log
        assert re.search(r"journal cannot be written .*journal.db.* make room", log)
        assert "the journal ends without its last" in log


def test_whoever_asks_is_not_kept_waiting_by_a_disk_that_hangs() -> None:
    with Qcosd() as other, freezing_disk(other.directory) as disk, Qcosd(f"--state-dir={disk}") as daemon:
        client = daemon.client()
        client.plugin("hello")
        sha = hashlib.sha256(b"program").hexdigest()
        client.ask(Type.BLOB_PUT, b"program", sha=sha, size=7)
        body = {"inputs": {"greeting": sha}, "options": {"target": "greeted"}}
        with frozen(disk):
            caught = client.send(Type.JOB_SUBMIT, key="k", **body)
            assert client.ask(Type.PING).type is Type.PONG, "before the answer that waits"
            while (answer := client.recv()).id != caught:
                pass
            assert answer.type is Type.ERROR and f"{disk}/journal.db" in answer.body["error"]["message"]
            assert "has not come back" in client.ask(Type.STATUS).body["journal"]["fault"]
            assert client.ask(Type.JOB_LIST).body["jobs"][0]["unsaved"] is True
            assert client.ask(Type.JOB_SUBMIT, key="other", **body).body["error"]["name"] == "no_space"
        while (answer := client.ask(Type.JOB_SUBMIT, key="k", **body)).type is Type.ERROR:
            pass
        assert answer.type is Type.JOB_ACCEPTED
        end = client.ask(Type.JOB_WAIT, job=answer.body["job"]).body["document"]
        assert end["state"] == "done" and "unsaved" not in end
        assert daemon.stop()[0] == 0
