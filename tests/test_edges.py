"""
Where two things happen at once: what a careful reader of the code found.
"""

from __future__ import annotations

import gc
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from observing import SECONDS, until

from ckptstream import follow, latest_checkpoint
from ckptstream._scan import Look, _watching, look
from ckptstream._scan._paths import turns as walk
from ckptstream.layouts import Evidence
from ckptstream.testing import ManualWatcher, save

pytestmark = pytest.mark.anyio


class Marked:
    """
    A user's layout, without mercy for other names.
    """

    name = "marked"

    def match(self, name: str) -> tuple[str, int | None] | None:
        return name, int(name.split("-")[1])

    def missing(self, name: str, evidence: Evidence) -> str | None:
        evidence.settled(name)
        return None if evidence.stat(f"{name}/DONE") else "no DONE"

    def generation(self, name: str, evidence: Evidence) -> str | None:
        return evidence.fingerprint(f"{name}/DONE")


async def test_the_last_look_waits_for_what_takes_long_to_compare(run: Path) -> None:
    """
    Two thousand files must be given their settle interval, too.
    """
    files = run / "10/default/d"
    files.mkdir(parents=True)
    (run / "10/default/manifest.ocdbt").write_text("x")
    for number in range(2000):
        (files / f"{number:x}").touch()

    stream = follow(run, layout="orbax", timeout=0)

    assert [10] == [checkpoint.step async for checkpoint in stream]
    assert str(run / "10") == await latest_checkpoint(run, layout="orbax")


async def test_evidence_that_has_settled_is_not_asked_again_and_again(run: Path) -> None:
    """
    A timer that has fired is spent, also if nothing has changed by then.
    """
    watcher = ManualWatcher()
    (run / "s-1").mkdir()
    (run / "s-1/x").touch()
    stream = follow(run, layout=Marked(), timeout=1.3, watcher=watcher)

    assert [] == [checkpoint async for checkpoint in stream]
    assert watcher.looks < 8


async def test_a_layout_that_fails_harms_its_own_stream_alone(run: Path) -> None:
    """
    One stream reads the events for all; another one's error is not its own.
    """
    other = run.with_name("other")
    other.mkdir()
    good, bad = follow(run), follow(other, layout=Marked())
    steps = list[int | None]()

    async def take() -> None:
        steps.append((await anext(good)).step)
        group.cancel_scope.cancel()

    async def fail() -> None:
        with pytest.raises(IndexError):
            await anext(bad)
        save(run, 1)

    async def disturb() -> None:
        while good.status().runs[0].last_look is None or bad.status().runs[0].last_look is None:
            await anyio.sleep(0.001)
        (other / "foo").touch()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(take)
            group.start_soon(fail)
            group.start_soon(disturb)

    assert [1] == steps


async def test_a_step_that_is_reached_while_others_settle_ends_nothing_yet(run: Path) -> None:
    """
    The first look is complete only when all of it has settled.
    """
    watcher = ManualWatcher()
    for step in range(1, 6):
        save(run, step, "orbax")
    (run / "6").mkdir()
    (run / "6/_METADATA").write_text("{}")
    stream = follow(run, layout="orbax", until_step=3, watcher=watcher)

    async def delete() -> None:
        await watcher.waiting()
        shutil.rmtree(run / "4")
        watcher.touch()

    async with anyio.create_task_group() as group:
        group.start_soon(delete)
        steps = [checkpoint.step async for checkpoint in stream]

    assert [1, 2, 3] == steps


@pytest.mark.parametrize("linked", [True, False])
async def test_a_directory_that_appears_before_its_gap_is_watched(
    run: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """
    Between "it is not there" and "tell me when it comes" it may come.
    """
    path = run.with_name("link") if linked else run
    if linked:
        path.symlink_to(run)
    run.rmdir()
    calls = 0

    def turns(directory: str) -> list[tuple[str, str]]:
        nonlocal calls
        calls += 1
        if calls == 2:
            save(run, 1)
        return walk(directory)

    monkeypatch.setattr(_watching, "turns", turns)

    with anyio.fail_after(30):
        assert 1 == (await anext(follow(path))).step


async def test_a_run_begun_anew_in_another_directory_comes_in_order(run: Path) -> None:
    """
    Its names are old, its checkpoints are new.
    """
    for step in range(100, 700, 100):
        save(run, step)
    stream = follow(run, until_step=700)
    for _ in range(6):
        await anext(stream)

    os.rename(run, run.with_name("old"))
    for step in range(100, 800, 100):
        save(run, step)

    with anyio.fail_after(30):
        assert list(range(100, 800, 100)) == [checkpoint.step async for checkpoint in stream]


async def test_a_closed_stream_that_is_kept_keeps_no_descriptor(run: Path) -> None:
    """
    The kernel allows a user few of them.
    """
    save(run, 1)
    stream = follow(run)
    await anext(stream)
    before = len(inotify_descriptors())

    await stream.aclose()

    assert before - 1 == len(inotify_descriptors())
    assert "it was closed" == stream.status().ended


@pytest.mark.parametrize("fails", [False, True])
async def test_a_closed_stream_that_is_kept_keeps_nothing_of_a_look_in_flight(
    run: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """
    Whatever it finds or raises after the end, nobody takes it.
    """
    before, looking, hold = inotify_descriptors(), threading.Event(), threading.Event()

    def slow_look(*arguments: Any) -> Look:
        found = look(*arguments)
        looking.set()
        hold.wait(SECONDS)
        if fails:
            raise OSError("it is closed")
        return found

    monkeypatch.setattr("ckptstream._stream._run.look", slow_look)
    stream = follow(run)
    async with anyio.create_task_group() as group:
        group.start_soon(anext, stream)
        await until(looking.is_set)
        group.cancel_scope.cancel()
    await stream.aclose()
    assert before != inotify_descriptors()
    hold.set()

    await until(lambda: gc.collect() >= 0 and before == inotify_descriptors())
    assert "it was closed" == stream.status().ended


def inotify_descriptors() -> list[str]:
    """
    Those of this process.
    """
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return [link for link in links if os.path.islink(link) and "inotify" in os.readlink(link)]
