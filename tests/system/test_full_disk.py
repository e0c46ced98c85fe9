# SPDX-License-Identifier: Apache-2.0
"""What a user sees of a daemon whose state directory is full, and that everything goes on when there is room again."""

from __future__ import annotations

import json
from pathlib import Path

import qcos_plugins.hello
from journal_world import full, small_disk
from system_world import GREET, DaemonWorld, World, await_condition


def test_a_full_disk_is_named_and_everything_goes_on_after_it(world: World, tmp_path: Path) -> None:
    greeting = world.file("greeting", "you")
    others = ("grid_mapper", "matching_tracker", "pytket_compile", "pytket_optimise", "pyzx_optimise", "recorded_adapter", "stim_adapter", "surface_code", "tableau_adapter", "verifier")  # fmt: skip
    config = world.file("qcosd.toml", f"[plugins]\ndisable = {json.dumps(others)}\n")
    nobody = world.home / "plugins" / "nobody" / "plugin.toml"  # who would do the job that waits
    nobody.parent.mkdir(parents=True)
    text = (Path(qcos_plugins.hello.__file__).parent / "plugin.toml").read_text()
    for word, other in (("hello", "nobody"), ("greeted", "never")):
        text = text.replace(f'"{word}"', f'"{other}"')
    nobody.write_text(text)
    with small_disk(tmp_path / "disk", "4m") as disk:
        daemon = DaemonWorld(world.home, world.mark)
        daemon.start("--config", config, "--state-dir", disk, "--plugin-dir", world.home / "plugins")
        assert daemon.ctl("plugin", "stop", "nobody").code == 0
        done = daemon.ctl("job", "submit", greeting, *GREET).out.strip()
        assert daemon.ctl("job", "wait", done).code == 0
        held = daemon.ctl("job", "submit", greeting, "--as", "greeting", "--target", "never").out.strip()
        pid = daemon.ctl("plugin", "list", "--json").document[0]["pid"]
        with full(disk):
            caught = daemon.ctl("job", "cancel", held)  # the first to notice
            assert caught.code == 1 and f"{disk}/journal.db" in caught.err and "make room" in caught.err
            for words in (("job", "submit", greeting, *GREET), ("job", "cancel", done), ("plugin", "restart", "hello")):
                refused = daemon.ctl(*words, "--json")
                assert refused.code == 1 and refused.document["error"]["name"] == "no_space", words
                assert f"{disk}/journal.db" in refused.document["error"]["message"]
            assert f"{disk}/journal.db" in daemon.ctl("status").out
            ill = daemon.ctl("doctor")
            assert ill.code == 1 and f"{disk}/journal.db" in ill.out and "free space" in ill.out
            shown = daemon.ctl("job", "show", held, "--json")
            assert shown.document["unsaved"] is True and "not all on disk" in shown.err
            for words in (("job", "show", done), ("job", "explain", done), ("job", "result", done)):
                saved = daemon.ctl(*words, "--json")
                assert saved.code == 0 and "unsaved" not in saved.document and not saved.err, words
            listed = daemon.ctl("job", "list", "--json")
            assert {row["job"] for row in listed.document} == {done, held} and all(
                row["unsaved"] for row in listed.document
            )
            assert daemon.ctl("job", "result", held).code == 1
            assert daemon.ctl("plugin", "list", "--json").document[0]["pid"] == pid
        await_condition(lambda: daemon.ctl("status", "--json").document["journal"]["fault"] == "", "a journal in order")
        assert daemon.ctl("job", "show", held, "--json").document["state"] == "cancelled"
        assert daemon.ctl("job", "wait", daemon.ctl("job", "submit", greeting, *GREET).out.strip()).code == 0
        assert daemon.ctl("plugin", "list", "--json").document[0]["pid"] == pid, "nobody has left"
        assert daemon.stop() == 0
