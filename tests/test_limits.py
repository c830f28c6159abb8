"""
The kernel has no more room, or too many events: nothing is lost, and somebody is told.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from observing import (
    SECONDS,
    inodes,
    inotify_descriptors,
    linux,
    mark_done,
    run_with_limit,
    until,
    watched,
)

from ckptstream import CheckpointStream, follow

pytestmark = [linux, pytest.mark.anyio]

if sys.platform == "linux":
    from inotify_simple import INotify

LAYOUT = "step_{step}/DONE"
POLL = 0.01


@pytest.fixture(autouse=True)
def _warnings_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ckptstream")


async def next_step(stream: CheckpointStream) -> int | None:
    with anyio.fail_after(SECONDS):
        return (await anext(stream)).step


async def saved_while_waiting(stream: CheckpointStream, save: Callable[[], object]) -> int | None:
    """
    What a stream delivers that waits already when *save* is called.
    """
    got = list[int | None]()

    async def read() -> None:
        got.append(await next_step(stream))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await waits(stream)
        save()
    return got[0]


async def waits(stream: CheckpointStream) -> None:
    """
    Until a stream waits, and no look of it is in flight.
    """
    engine = stream.engine

    def idle() -> bool:
        watcher = engine._watcher
        waiting = watcher is not None and engine._alarm in watcher._waiting  # type: ignore[attr-defined]
        looking = any(run.flight.looking for run in engine._following.roster.runs.values())
        return waiting and not looking and not engine._alarm.rung

    await until(idle)


def follow_quickly(run: Path) -> CheckpointStream:
    return follow(run, layout=LAYOUT, poll_interval=POLL)


async def test_an_overflow_while_nobody_reads_loses_nothing(tmp_path: Path) -> None:
    """
    Too many events while the consumer is busy: every run is looked at again.
    """
    busy, quiet = tmp_path / "busy", tmp_path / "quiet"
    streams = [follow(run, layout=LAYOUT) for run in (busy, quiet)]
    for run, stream in zip((busy, quiet), streams, strict=True):
        mark_done(run, 1)
        assert 1 == await next_step(stream)
        with anyio.move_on_after(0.05):
            await anext(stream)

    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit // 2 + 1000):
        (busy / f"flood-{number}").mkdir()
        (busy / f"flood-{number}").rmdir()
    for step in (2, 3):
        mark_done(busy, step)
        mark_done(quiet, step)

    assert [[2, 3]] * 2 == [[await next_step(s), await next_step(s)] for s in streams]


LIMITS = pytest.mark.parametrize(
    ("method", "number", "limit"),
    [
        ("add_watch", errno.ENOSPC, "fs.inotify.max_user_watches"),
        ("__init__", errno.EMFILE, "fs.inotify.max_user_instances"),
    ],
)


def refuse(monkeypatch: pytest.MonkeyPatch, method: str, number: int) -> list[object]:
    """
    Let the kernel refuse, and count how often it was asked.
    """
    asked = list[object]()

    def fail(self: object, *arguments: object, **options: object) -> None:
        asked.append(arguments)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(INotify, method, fail)
    return asked


@LIMITS
async def test_without_watches_a_run_is_polled(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    number: int,
    limit: str,
) -> None:
    """
    Nothing is lost, status() says why, and one warning says what to do.
    """
    asked = refuse(monkeypatch, method, number)
    stream = follow_quickly(run)

    steps = list[int | None]()
    for step in range(5):
        mark_done(run, step)
        steps.append(await next_step(stream))
    steps.append(await saved_while_waiting(stream, lambda: mark_done(run, 5)))

    assert asked
    assert list(range(6)) == steps
    status = stream.status().runs[0]
    assert ("poll", f"{limit} is exhausted") == (status.watcher, status.watcher_reason)
    expected = f"{run}: {limit} is exhausted: polling instead; raise it with sysctl"
    assert [expected] == [record.getMessage() for record in caplog.records]


async def test_watches_run_out_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Those that have a watch keep it; the rest is polled; both notice.
    """
    early, late = tmp_path / "early", tmp_path / "late"
    for run in (early, late):
        run.mkdir()
    real = INotify.add_watch

    def add_watch(self: INotify, path: str, mask: int) -> int:
        if str(path) == str(late):
            raise OSError(errno.ENOSPC, "no space")
        return real(self, path, mask)

    monkeypatch.setattr(INotify, "add_watch", add_watch)
    streams = [follow_quickly(early), follow_quickly(late)]
    steps = [
        await saved_while_waiting(stream, lambda: mark_done(run, 1))  # noqa: B023
        for run, stream in zip((early, late), streams, strict=True)
    ]

    assert [1, 1] == steps
    assert ["inotify", "poll"] == [stream.status().runs[0].watcher for stream in streams]
    assert [str(late)] == [record.getMessage().split(":")[0] for record in caplog.records]


@LIMITS
async def test_a_run_returns_to_events_when_there_is_room(
    run: Path, monkeypatch: pytest.MonkeyPatch, method: str, number: int, limit: str
) -> None:
    """
    Every look tries again.
    """
    stream = follow_quickly(run)
    with monkeypatch.context() as patch:
        refuse(patch, method, number)
        mark_done(run, 1)
        assert 1 == await next_step(stream)
        assert f"{limit} is exhausted" == stream.status().runs[0].watcher_reason

    got = list[int | None]()

    async def read() -> None:
        got.append(await next_step(stream))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await until(lambda: stream.status().runs[0].watcher == "inotify")
        mark_done(run, 2)

    assert [2] == got


@pytest.mark.parametrize(
    ("option", "expected"),
    [("poll", ("poll", "as asked", 0)), ("inotify", ("inotify", "ext4 is local", 1))],
)
async def test_the_watcher_can_be_forced(
    run: Path, monkeypatch: pytest.MonkeyPatch, option: str, expected: tuple[str, str, int]
) -> None:
    """
    Polling opens no instance; inotify is what it says.
    """
    monkeypatch.setattr("ckptstream._stores._mounts.mount", lambda path: ("/", "ext4"))
    before = inotify_descriptors()
    stream = follow(run, layout=LAYOUT, watcher=option, poll_interval=POLL)  # type: ignore[arg-type]

    assert 1 == await saved_while_waiting(stream, lambda: mark_done(run, 1))
    status = stream.status().runs[0]
    opened = len(inotify_descriptors() - before)
    assert expected == (status.watcher, status.watcher_reason, opened)


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "unknown"])
@pytest.mark.parametrize("forced", [False, True])
async def test_other_filesystems_are_polled_unless_forced(
    run: Path, monkeypatch: pytest.MonkeyPatch, kind: str, forced: bool
) -> None:
    """
    Their events are not known to be complete; who knows better says so.
    """
    monkeypatch.setattr("ckptstream._stores._mounts.mount", lambda path: ("/", kind))
    before = inotify_descriptors()
    watcher = "inotify" if forced else "auto"
    stream = follow(run, layout=LAYOUT, watcher=watcher, poll_interval=POLL)  # type: ignore[arg-type]

    assert 1 == await saved_while_waiting(stream, lambda: mark_done(run, 1))
    status = stream.status().runs[0]
    opened = len(inotify_descriptors() - before)
    if forced:
        assert ("inotify", 1) == (status.watcher, opened)
    else:
        reason = f"{kind} may change without an event"
        assert ("poll", reason, 0) == (status.watcher, status.watcher_reason, opened)


async def test_a_missing_run_on_a_network_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its parent lies there, too.
    """
    monkeypatch.setattr("ckptstream._stores._mounts.mount", lambda path: ("/", "nfs4"))
    stream = follow_quickly(tmp_path / "later")

    assert 1 == await saved_while_waiting(stream, lambda: mark_done(tmp_path / "later", 1))


async def test_events_are_read_and_not_polled(run: Path) -> None:
    """
    A healthy run needs no timer: with an hour between two polls it notices at once.
    """
    stream = follow(run, layout=LAYOUT, poll_interval=3600)

    for step in range(3):
        assert step == await saved_while_waiting(stream, lambda: mark_done(run, step))  # noqa: B023


async def test_a_path_that_appears_part_by_part(tmp_path: Path) -> None:
    """
    Several levels are missing: the nearest parent is watched, one after the other.
    """
    run = tmp_path / "a" / "b" / "c"
    before = inotify_descriptors()
    stream = follow(run, layout=LAYOUT, poll_interval=3600)
    got = list[int | None]()

    async def read() -> None:
        got.append(await next_step(stream))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        for directory in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
            directory.mkdir(exist_ok=True)
            reason = f"waits in {str(directory)!r}"
            await until(lambda: reason == stream.status().runs[0].watcher_reason)  # noqa: B023
            (instance,) = inotify_descriptors() - before
            await until(lambda: inodes(directory) == watched(instance))  # noqa: B023
        run.mkdir()
        await until(lambda: stream.status().runs[0].waiting_for.endswith("first checkpoint"))
        mark_done(run, 1)

    assert [1] == got


async def test_a_symlink_that_moves(tmp_path: Path) -> None:
    """
    `latest -> run-1` becomes `latest -> run-2`: the new run is followed, and the old one is not.
    """
    one, two, link = tmp_path / "one", tmp_path / "two", tmp_path / "links" / "latest"
    mark_done(one, 1)
    mark_done(two, 2)
    link.parent.mkdir()
    link.symlink_to(one)
    before = inotify_descriptors()
    stream = follow(link, layout=LAYOUT, poll_interval=3600)
    assert 1 == await next_step(stream)

    def retarget() -> None:
        (tmp_path / "new").symlink_to(two)
        (tmp_path / "new").replace(link)

    steps = [await saved_while_waiting(stream, retarget)]
    steps.append(await saved_while_waiting(stream, lambda: mark_done(two, 3)))
    (instance,) = inotify_descriptors() - before

    assert [2, 3] == steps
    assert inodes(two)[0] in watched(instance)
    assert inodes(one)[0] not in watched(instance)


async def test_a_directory_that_is_replaced(tmp_path: Path) -> None:
    """
    Renamed away, and another one in its place; the old one's events mean nothing any more.
    """
    run, old = tmp_path / "run", tmp_path / "old"
    stream = follow(run, layout=LAYOUT, poll_interval=3600)
    mark_done(run, 1)
    assert 1 == await next_step(stream)

    def replace() -> None:
        run.rename(old)
        mark_done(run, 2)

    steps = [await saved_while_waiting(stream, replace)]
    mark_done(old, 99)
    steps.append(await saved_while_waiting(stream, lambda: mark_done(run, 3)))

    assert [2, 3] == steps


async def test_two_hundred_runs_are_deleted_and_come_back(tmp_path: Path) -> None:
    """
    Each of them is followed again, on its own stream, without a poll.
    """
    runs = [tmp_path / f"run-{number}" for number in range(200)]
    got: dict[Path, list[int | None]] = {run: [] for run in runs}

    async def read(run: Path) -> None:
        async for checkpoint in follow(run, layout=LAYOUT, poll_interval=3600, until_step=3):
            got[run].append(checkpoint.step)

    for run in runs:
        mark_done(run, 1)
    with anyio.fail_after(SECONDS * 2):
        async with anyio.create_task_group() as group:
            for run in runs:
                group.start_soon(read, run)
            for step in (2, 3):
                await until(lambda: all(len(steps) == step - 1 for steps in got.values()))  # noqa: B023
                for run in runs:
                    shutil.rmtree(run)
                    mark_done(run, step)

    assert [[1, 2, 3]] * 200 == list(got.values())


PROGRAM = """if True:
    import logging, sys, tempfile, anyio, ckptstream
    from pathlib import Path
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
    root = Path(sys.argv[1])

    async def main():
        streams = {}
        for number in range(8):
            run = root / f"run-{number}"
            run.mkdir()
            streams[run] = ckptstream.follow(run, layout="{step}/DONE", poll_interval=0.01)
        for step in range(3):
            for run, stream in streams.items():
                (run / str(step)).mkdir()
                (run / str(step) / "DONE").touch()
                with anyio.fail_after(20):
                    assert step == (await anext(stream)).step
        print(*(stream.status().runs[0].watcher for stream in streams.values()))

    for backend in ("asyncio", "trio"):
        anyio.run(main, backend=backend)
        root = root / "again"
        root.mkdir()
"""


@pytest.mark.parametrize(
    ("limit", "number", "polled"), [("watches", 5, range(3, 9)), ("instances", 0, range(8, 9))]
)
def test_the_real_kernel_runs_out(tmp_path: Path, limit: str, number: int, polled: range) -> None:
    """
    In a user namespace of its own, with limits of its own.
    """
    lines = run_with_limit(limit, number, PROGRAM, tmp_path)

    watchers = [line.split() for line in lines if not line.startswith("WARNING")]
    warned = [line for line in lines if line.startswith("WARNING")]
    exhausted = f"fs.inotify.max_user_{limit} is exhausted"
    assert [8, 8] == [len(each) for each in watchers]
    assert [True, True] == [each.count("poll") in polled for each in watchers]
    assert len(watchers) == len(warned)  # one for each event loop
    assert [True] * len(warned) == [exhausted in line for line in warned]
