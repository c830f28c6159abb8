"""
The kernel's limits, met by many runs at once: one stream over all of them, or one in each task.
"""

from __future__ import annotations

import errno
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from observing import (
    SECONDS,
    linux,
    run_with_limit,
    until,
)
from sweeping import HOUR, LAYOUT, finish, named, reading, runs_of, sweep_of

from ckptstream import CheckpointStream, follow

pytestmark = linux

if sys.platform == "linux":
    from inotify_simple import INotify

POLL = 0.02
MANY = 50


class Followed:
    """
    What came of many runs, followed by one stream or by a stream for each.
    """

    def __init__(self, root: Path, runs: list[str], shape: str, **options: Any) -> None:
        self.root = root
        self.runs = runs
        paths = [[root / "*"]] if shape == "one" else [[root / run] for run in runs]
        options = {"layout": LAYOUT, "poll_interval": HOUR, **options}
        self.streams = [follow(*each, **options) for each in paths]
        self.got: dict[str, list[int | None]] = {run: [] for run in runs}

    async def take(self, stream: CheckpointStream) -> None:
        async for checkpoint in stream:
            ((run, step),) = named(self.root, [checkpoint])
            self.got[run].append(step)

    async def all_have(self, step: int) -> None:
        await until(lambda: all(step in steps for steps in self.got.values()))

    def watchers(self) -> list[str | None]:
        return [run.watcher for stream in self.streams for run in stream.status().runs]


SHAPES = pytest.mark.parametrize("shape", ["one", "tasks"])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# The kernel's limits.


@SHAPES
@pytest.mark.anyio
async def test_watches_run_out_among_many_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, shape: str
) -> None:
    """
    Those that have one keep it, the rest is polled and says so, nothing is lost; one warning.
    """
    runs = [f"run-{number:02}" for number in range(MANY)]
    finish(tmp_path, *((run, 1) for run in runs))
    full = {str(tmp_path / run) for run in runs[20:]}
    real = INotify.add_watch

    def add_watch(self: INotify, path: str, mask: int) -> int:
        if str(path) in full:
            raise OSError(errno.ENOSPC, "no space")
        return real(self, path, mask)

    monkeypatch.setattr(INotify, "add_watch", add_watch)
    followed = Followed(tmp_path, runs, shape, poll_interval=POLL)
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as group:
            for stream in followed.streams:
                group.start_soon(followed.take, stream)
            await followed.all_have(1)
            for step in (2, 3):
                finish(tmp_path, *((run, step) for run in runs))
                await followed.all_have(step)
            kinds = followed.watchers()
            reasons = {r.watcher_reason for s in followed.streams for r in s.status().runs[-1:]}
            group.cancel_scope.cancel()

    assert {run: [1, 2, 3] for run in runs} == followed.got
    assert ["inotify"] * 20 + ["poll"] * 30 == kinds
    assert "fs.inotify.max_user_watches is exhausted" in reasons
    assert ["fs.inotify.max_user_watches is exhausted"] == [
        text[text.index("fs.") :][:40] for text in warnings(caplog)
    ]


@SHAPES
@pytest.mark.anyio
async def test_no_instance_is_left_for_many_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, shape: str
) -> None:
    """
    All of them are polled, with one warning; there is one again, and all return to events.
    """
    runs = [f"run-{number:02}" for number in range(MANY)]
    finish(tmp_path, *((run, 1) for run in runs))
    followed = Followed(tmp_path, runs, shape, poll_interval=POLL)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "too many")

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as group:
            with monkeypatch.context() as patch:
                patch.setattr(INotify, "__init__", refuse)
                for stream in followed.streams:
                    group.start_soon(followed.take, stream)
                await followed.all_have(1)
                before = followed.watchers()
                finish(tmp_path, *((run, 2) for run in runs))
                await followed.all_have(2)
            await until(lambda: ["inotify"] * MANY == followed.watchers())
            finish(tmp_path, *((run, 3) for run in runs))
            await followed.all_have(3)
            group.cancel_scope.cancel()

    assert ["poll"] * MANY == before
    assert {run: [1, 2, 3] for run in runs} == followed.got
    assert ["fs.inotify.max_user_instances is exhausted"] == [
        text[text.index("fs.") :][:42] for text in warnings(caplog)
    ]


PROGRAM = """if True:
    import logging, sys, anyio, ckptstream
    from pathlib import Path
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
    root = Path(sys.argv[1])

    def done(number, step):
        hidden = root / f"run-{number}/.new"
        hidden.mkdir(parents=True)
        (hidden / "DONE").touch()
        hidden.rename(root / f"run-{number}/{step}")

    async def main():
        stream = ckptstream.follow(root / "*", layout="{step}/DONE", poll_interval=0.02)
        for step in range(3):
            for number in range(20):
                done(number, step)
            with anyio.fail_after(20):
                got = {(await anext(stream)).run for _ in range(20)}
                assert len(got) == 20, got
        print(*(run.watcher for run in stream.status().runs))

    for backend in ("asyncio", "trio"):
        anyio.run(main, backend=backend)
        root = root / ".again"
"""


@pytest.mark.parametrize(
    ("limit", "number", "polled"), [("watches", 15, range(5, 21)), ("instances", 0, range(20, 21))]
)
def test_the_real_kernel_runs_out(tmp_path: Path, limit: str, number: int, polled: range) -> None:
    """
    In a user namespace of its own, with limits of its own: one warning for each stream.
    """
    lines = run_with_limit(limit, number, PROGRAM, tmp_path)

    watchers = [line.split() for line in lines if not line.startswith("WARNING")]
    warned = [line for line in lines if line.startswith("WARNING") and "exhausted" in line]
    assert [20, 20] == [len(each) for each in watchers]
    assert [True, True] == [each.count("poll") in polled for each in watchers]
    assert (2, True) == (len(warned), all(f"fs.inotify.max_user_{limit}" in w for w in warned))


@pytest.mark.anyio
async def test_an_overflow_while_the_consumer_sleeps_loses_nothing(tmp_path: Path) -> None:
    """
    Too many events: every run is looked at again, those that joined and left meanwhile are known.
    """
    runs = [f"run-{number:02}" for number in range(MANY)]
    finish(tmp_path, *((run, 1) for run in runs))
    stream = sweep_of(tmp_path / "*")
    async with reading(stream, tmp_path) as reader:
        await reader.until(*((run, 1) for run in runs))
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        # Nothing is awaited: the consumer is busy all the while.
        for _ in range(limit // 2 + 1000):
            (tmp_path / "run-00/flood").mkdir()
            (tmp_path / "run-00/flood").rmdir()
        shutil.rmtree(tmp_path / "run-01")
        finish(tmp_path, *((run, 2) for run in runs if run != "run-01"), ("new", 1), ("new", 2))
        await reader.until(*((run, 2) for run in runs if run != "run-01"), ("new", 1), ("new", 2))
        assert sorted({*runs, "new"} - {"run-01"}) == sorted(runs_of(stream, tmp_path))
        finish(tmp_path, ("new", 3))
        await reader.until(("new", 3))

    assert len(set(reader.got)) == len(reader.got)
