# SPDX-License-Identifier: Apache-2.0
"""The artifact store on a real directory."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shell_world import run

from qcosd.shell.artifacts import Artifacts

CHUNK = 1 << 18


def sha_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def result(call: Callable[[Callable[[Any], None]], None]) -> Any:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    call(done.set_result)
    return await done


async def put(store: Artifacts, ticket: int, data: bytes, sha: str | None = None) -> list[str | None]:
    """Results of the chunks."""
    offsets = range(0, len(data), CHUNK) if data else [0]
    calls = []
    for offset in offsets:
        chunk = data[offset : offset + CHUNK]
        done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        store.write(ticket, sha or sha_of(data), offset, chunk, offset + len(chunk) == len(data), done.set_result)
        calls.append(done)
    return [await call for call in calls]


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 5 * CHUNK])
def test_what_is_put_can_be_read(tmp_path: Path, size: int, durable: bool) -> None:
    async def test() -> None:
        store = Artifacts(asyncio.get_running_loop(), tmp_path, durable)
        data = os.urandom(size)
        sha = sha_of(data)
        assert set(await put(store, 1, data)) == {None}
        assert store.path(sha).read_bytes() == data
        assert await result(lambda done: store.read(sha, 0, size, done)) == data
        middle = size // 2
        assert await result(lambda done: store.read(sha, middle, size - middle, done)) == data[middle:]
        assert await result(lambda done: store.read(sha, 0, size + 1, done)) is None
        assert await put(store, 2, data), "the same artifact again"
        store.close()
        assert list((tmp_path / "incoming").iterdir()) == []

    run(test())


def test_a_wrong_digest_is_found_and_nothing_stays(tmp_path: Path) -> None:
    async def test() -> None:
        store = Artifacts(asyncio.get_running_loop(), tmp_path)
        wrong = sha_of(b"something else")
        assert await put(store, 1, b"data", wrong) == ["wrong_digest"]
        assert await result(lambda done: store.read(wrong, 0, 4, done)) is None
        store.close()

    run(test())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_unfinished_writes_are_forgotten(tmp_path: Path) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        store = Artifacts(loop, tmp_path)
        sha = sha_of(b"onetwo")
        assert await result(lambda done: store.write(1, sha, 0, b"one", False, done)) is None
        store.drop(1)
        assert await result(lambda done: store.write(2, sha, 0, b"one", False, done)) is None
        assert [path.name for path in (tmp_path / "incoming").iterdir()] == ["2"]
        store.close()
        (tmp_path / "incoming" / "3").write_bytes(b"of a daemon that was killed")
        Artifacts(loop, tmp_path).close()
        assert list((tmp_path / "incoming").iterdir()) == []

    run(test())


def test_two_writers_of_one_artifact(tmp_path: Path) -> None:
    async def test() -> None:
        store = Artifacts(asyncio.get_running_loop(), tmp_path)
        data = os.urandom(3 * CHUNK)
        both = await asyncio.gather(put(store, 1, data), put(store, 2, data))
        assert both == [[None] * 3] * 2
        assert await result(lambda done: store.read(sha_of(data), 0, len(data), done)) == data
        store.close()

    run(test())


def test_a_full_disk_is_an_answer(tmp_path: Path) -> None:
    """A file size limit stands in for the disk: writing beyond it fails in the same place."""

    async def test() -> None:
        store = Artifacts(asyncio.get_running_loop(), tmp_path)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK + 10, before[1]))
        try:
            answers = await put(store, 1, bytes(4 * CHUNK))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert answers[0] is None and answers[1:] == ["no_space"] * 3
        assert await put(store, 2, b"small") == [None]
        store.close()
        assert list((tmp_path / "incoming").iterdir()) == []

    assert errno.EFBIG  # what the limit gives where a full disk gives ENOSPC
    run(test())


def test_what_the_disk_does_not_let_go_is_no_fault(tmp_path: Path) -> None:
    async def test() -> None:
        store = Artifacts(asyncio.get_running_loop(), tmp_path)
        assert await result(lambda done: store.write(1, "0" * 64, 0, b"data", False, done)) is None
        (tmp_path / "incoming" / "1").unlink()
        (tmp_path / "incoming" / "1").mkdir()
        store.drop(1)
        assert await put(store, 2, b"more") == [None]
        store.close()

    faults: list[object] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        await test()

    run(watched())
    assert faults == []


def test_a_directory_without_permission_is_an_answer(tmp_path: Path) -> None:
    async def test() -> None:
        store = Artifacts(asyncio.get_running_loop(), tmp_path)
        (tmp_path / "incoming").chmod(0o500)
        if os.access(tmp_path / "incoming", os.W_OK):
            pytest.skip("root may write everywhere")
        assert await put(store, 1, b"data") == ["no_space"]
        (tmp_path / "incoming").chmod(0o700)
        assert await put(store, 2, b"data") == [None]
        store.close()

    run(test())


@pytest.mark.parametrize("sha", ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "/" * 64])
def test_only_digests_are_names(tmp_path: Path, sha: str) -> None:
    async def test() -> None:
        store = Artifacts(asyncio.get_running_loop(), tmp_path)
        with pytest.raises(ValueError):
            store.path(sha)
        store.close()

    run(test())


def test_what_is_there_is_known_at_the_start(tmp_path: Path) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        store = Artifacts(loop, tmp_path)
        assert store.contents() == {}
        pieces = [os.urandom(size) for size in (0, 1, 1000)]
        for ticket, data in enumerate(pieces):
            await put(store, ticket, data)
        store.write(9, sha_of(b"ab"), 0, b"a", False, lambda _: None)
        store.close()
        (tmp_path / "ab").mkdir(exist_ok=True)
        (tmp_path / "ab" / "notes.txt").touch()
        (tmp_path / "incoming" / "1").touch()
        again = Artifacts(loop, tmp_path)
        assert again.contents() == {sha_of(data): len(data) for data in pieces}
        assert list((tmp_path / "incoming").iterdir()) == []
        again.close()

    run(test())


def test_what_is_deleted_is_gone_and_can_be_put_again(tmp_path: Path) -> None:
    async def test() -> None:
        store = Artifacts(asyncio.get_running_loop(), tmp_path)
        kept, gone = b"kept", b"gone"
        await put(store, 1, kept)
        await put(store, 2, gone)
        store.delete([sha_of(gone), sha_of(b"never there")])
        assert await result(lambda done: store.read(sha_of(gone), 0, 4, done)) is None
        assert await result(lambda done: store.read(sha_of(kept), 0, 4, done)) == kept
        store.delete([sha_of(kept)])
        assert await put(store, 3, kept) == [None], "in the order in which it was asked for"
        assert store.contents() == {sha_of(kept): 4}
        store.close()

    run(test())
