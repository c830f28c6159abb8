"""
Runs that join and leave a pattern, by events alone: an hour lies between two polls, and no test
lasts as long as a safety look is away.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from observing import SECONDS, inodes, inotify_descriptors, linux, mark_done, until, watched
from sweeping import at_rest, finish, news, reading, runs_of, sweep_of

from ckptstream.testing import ManualWatcher

pytestmark = [linux, pytest.mark.anyio]


def in_steps(path: Path) -> None:
    """
    One directory after the other, as `mkdir -p` makes them.
    """
    path.mkdir(parents=True)


async def test_a_run_that_appears_later_joins(tmp_path: Path) -> None:
    """
    Empty at first or with checkpoints in it, made in place or moved in whole, or a link.
    """
    finish(tmp_path, ("sweeps/a/ckpt", 1), (".aside/moved/ckpt", 1), ("elsewhere/ckpt", 1))
    async with reading(sweep_of(tmp_path / "sweeps/*/ckpt"), tmp_path / "sweeps") as reader:
        finish(tmp_path / "sweeps", ("b/ckpt", 1))
        await reader.until(("b/ckpt", 1))
        in_steps(tmp_path / "sweeps/c")
        await at_rest(reader.stream)
        in_steps(tmp_path / "sweeps/c/ckpt")
        await until(lambda: "c/ckpt" in runs_of(reader.stream, reader.root))
        (tmp_path / ".aside/moved").rename(tmp_path / "sweeps/moved")
        (tmp_path / "sweeps/link").symlink_to("../elsewhere")
        await reader.until(("moved/ckpt", 1), ("link/ckpt", 1))
        finish(tmp_path / "sweeps", ("c/ckpt", 1), ("moved/ckpt", 2))
        finish(tmp_path, ("elsewhere/ckpt", 2))
        await reader.until(("c/ckpt", 1), ("moved/ckpt", 2), ("link/ckpt", 2))

    assert len(set(reader.got)) == len(reader.got) == 7


async def test_the_way_to_it_appears_part_by_part(tmp_path: Path) -> None:
    """
    The root is missing, then the run, then what lies in it: each is waited for where it will be.
    """
    stream = sweep_of(tmp_path / "deep/sweeps/*/out/ckpt")
    before = inotify_descriptors()
    async with reading(stream, tmp_path / "deep/sweeps") as reader:
        way = [tmp_path, tmp_path / "deep"]
        for directory in ("deep/sweeps", "deep/sweeps/x", "deep/sweeps/x/out"):
            way.append(tmp_path / directory)
        for here, there in itertools.pairwise(way):
            (instance,) = inotify_descriptors() - before
            await until(lambda: inodes(here)[0] in watched(instance))  # noqa: B023
            await at_rest(stream)
            there.mkdir()
        await until(lambda: inodes(way[-1])[0] in watched(instance))
        (way[-1] / "ckpt").mkdir()
        await until(lambda: ["x/out/ckpt"] == runs_of(stream, reader.root))
        finish(reader.root, ("x/out/ckpt", 1))
        await reader.until(("x/out/ckpt", 1))

    assert [("x/out/ckpt", 1)] == reader.got


async def test_the_way_appears_all_at_once(tmp_path: Path) -> None:
    """
    Faster than any of it can be watched, forty times, each with a checkpoint in it.
    """
    stream = sweep_of(tmp_path / "sweeps/*/out/ckpt")
    runs = [f"run-{number}/out/ckpt" for number in range(40)]
    async with reading(stream, tmp_path / "sweeps") as reader:
        for run in runs:
            finish(reader.root, (run, 1))
            await anyio.lowlevel.checkpoint()
        await reader.until(*((run, 1) for run in runs))

    assert sorted((run, 1) for run in runs) == sorted(reader.got)


async def test_several_levels_of_stars(tmp_path: Path) -> None:
    """
    A new directory on any level is looked into, and so is what comes in it.
    """
    finish(tmp_path, ("a1/b1/c", 1))
    async with reading(sweep_of(tmp_path / "a*/b*/c"), tmp_path) as reader:
        await reader.until(("a1/b1/c", 1))
        finish(tmp_path, ("a1/b2/c", 1))
        await reader.until(("a1/b2/c", 1))
        in_steps(tmp_path / "a2")
        await at_rest(reader.stream)
        in_steps(tmp_path / "a2/b1")
        await at_rest(reader.stream)
        finish(tmp_path, ("a2/b1/c", 1), ("x/b1/c", 9), ("a2/x/c", 9))
        await reader.until(("a2/b1/c", 1))
        (tmp_path / "x").rename(tmp_path / "a3")
        (tmp_path / "a1/b1").rename(tmp_path / "a1/b3")
        await reader.until(("a3/b1/c", 9), ("a1/b3/c", 1))
        assert "a1/b1/c" not in runs_of(reader.stream, tmp_path)
        finish(tmp_path, ("a1/b3/c", 2), ("a2/b1/c", 2))
        await reader.until(("a1/b3/c", 2), ("a2/b1/c", 2))

    assert len(set(reader.got)) == len(reader.got) == 7


async def test_a_link_that_is_moved_to_another_run(tmp_path: Path) -> None:
    """
    `latest -> run-1` becomes `latest -> run-2`; both as a match, and as the root.
    """
    finish(tmp_path, (".one", 1), (".two", 2))
    (tmp_path / "latest").symlink_to(".one")
    async with reading(sweep_of(tmp_path / "lat*"), tmp_path) as reader:
        await reader.until(("latest", 1))
        (tmp_path / "new").symlink_to(".two")
        (tmp_path / "new").rename(tmp_path / "latest")
        await reader.until(("latest", 2))

    assert [("latest", 1), ("latest", 2)] == reader.got


async def test_a_root_behind_a_link_that_moves(tmp_path: Path) -> None:
    """
    Its old runs leave, and those of the new place join.
    """
    finish(tmp_path, (".one/a", 1), (".one/b", 1), (".two/b", 2), (".two/c", 2))
    root = tmp_path / "sweeps"
    root.symlink_to(".one")
    async with reading(sweep_of(root / "*"), root) as reader:
        await reader.until(("a", 1), ("b", 1))
        (tmp_path / "new").symlink_to(".two")
        (tmp_path / "new").rename(root)
        await reader.until(("b", 2), ("c", 2))
        assert ["b", "c"] == sorted(runs_of(reader.stream, root))
        finish(root, ("b", 3), ("c", 3))
        await reader.until(("b", 3), ("c", 3))


def rename_run(root: Path) -> None:
    (root / "x").rename(root / ".aside")


def rename_part(root: Path) -> None:
    (root / "x/out").rename(root / "x/.aside")


def rename_last(root: Path) -> None:
    (root / "x/out/ckpt").rename(root / "x/out/.aside")


def rename_root(root: Path) -> None:
    root.rename(root.parent / ".aside")


def delete_run(root: Path) -> None:
    shutil.rmtree(root / "x")


def delete_last(root: Path) -> None:
    shutil.rmtree(root / "x/out/ckpt")


CHANGES = pytest.mark.parametrize(
    "take_away", [rename_run, rename_part, rename_last, rename_root, delete_run, delete_last]
)


@CHANGES
async def test_a_run_that_goes_leaves_and_another_takes_its_place(
    tmp_path: Path, take_away: Callable[[Path], None]
) -> None:
    """
    On whatever level it was renamed or deleted; the new one at its path is followed.
    """
    root = tmp_path / "sweeps"
    finish(root, ("x/out/ckpt", 1))
    async with reading(sweep_of(root / "*/out/ckpt"), root) as reader:
        await reader.until(("x/out/ckpt", 1))
        take_away(root)
        await until(lambda: [] == runs_of(reader.stream, root))
        await at_rest(reader.stream)
        finish(root, ("x/out/ckpt", 2))
        await reader.until(("x/out/ckpt", 2))
        finish(root, ("x/out/ckpt", 3))
        await reader.until(("x/out/ckpt", 3))

    assert [1, 2, 3] == [step for run, step in reader.got if run == "x/out/ckpt"]


@CHANGES
async def test_a_run_that_is_replaced_at_once_is_followed(
    tmp_path: Path, take_away: Callable[[Path], None]
) -> None:
    """
    The same without a pause: there is always a directory, but another one.
    """
    root = tmp_path / "sweeps"
    finish(root, ("x/out/ckpt", 1))
    async with reading(sweep_of(root / "*/out/ckpt"), root) as reader:
        await reader.until(("x/out/ckpt", 1))
        take_away(root)
        finish(root, ("x/out/ckpt", 2))
        await reader.until(("x/out/ckpt", 2))
        finish(root, ("x/out/ckpt", 3))
        await reader.until(("x/out/ckpt", 3))


async def test_a_run_that_has_left_is_not_watched(tmp_path: Path) -> None:
    """
    Its watches are given back; so are those of a hundred that came and went.
    """
    before = inotify_descriptors()
    finish(tmp_path, ("x", 1))
    async with reading(sweep_of(tmp_path / "*"), tmp_path) as reader:
        await reader.until(("x", 1))
        (instance,) = inotify_descriptors() - before
        await until(lambda: {*inodes(tmp_path, tmp_path / "x")} <= {*watched(instance)})
        for number in range(100):
            (tmp_path / "x").rename(tmp_path / f".{number}")
            mark_done(tmp_path / "x", number)
        await reader.until(("x", 99))
        (tmp_path / "x").rename(tmp_path / ".x")
        await until(lambda: inodes(tmp_path) == watched(instance))


async def test_two_hundred_runs_are_deleted_and_come_back(tmp_path: Path) -> None:
    """
    While one stream iterates over them: each brings its new ones, and nothing twice.
    """
    runs = [f"run-{number}" for number in range(200)]
    stream = sweep_of(tmp_path / "*")
    async with reading(stream, tmp_path) as reader:
        for step in (1, 2, 3):
            for run in runs:
                finish(tmp_path, (run, step))
            await reader.until(*((run, step) for run in runs))
            for run in runs:
                shutil.rmtree(tmp_path / run)
            await until(lambda: [] == runs_of(stream, tmp_path))

    assert {run: [1, 2, 3] for run in runs} == {
        run: [step for name, step in reader.got if name == run] for run in runs
    }


async def test_runs_come_and_go_while_it_iterates(tmp_path: Path) -> None:
    """
    Deleted and made again without waiting for anybody: the last state of each is delivered.
    """
    runs = [f"run-{number}" for number in range(200)]
    async with reading(sweep_of(tmp_path / "*/ckpt"), tmp_path) as reader:
        for step in range(1, 6):
            for run in runs:
                shutil.rmtree(tmp_path / run, ignore_errors=True)
                finish(tmp_path, (f"{run}/ckpt", step))
            await anyio.sleep(0)
        await reader.until(*((f"{run}/ckpt", 5) for run in runs))
        for run in runs:
            finish(tmp_path, (f"{run}/ckpt", 6))
        await reader.until(*((f"{run}/ckpt", 6) for run in runs))

    assert len(set(reader.got)) == len(reader.got)


async def test_polling_finds_them_as_well(tmp_path: Path) -> None:
    """
    With `watcher="poll"` no instance is opened; runs join, come back and leave all the same.
    """
    before = inotify_descriptors()
    stream = sweep_of(tmp_path / "sweeps/*/ckpt", watcher="poll", poll_interval=0.01)
    got = list[tuple[str, int | None]]()

    async def take() -> None:
        async for checkpoint in stream:
            got.append((os.path.relpath(checkpoint.run, tmp_path), checkpoint.step))

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(take)
            for step in (1, 2):
                finish(tmp_path, ("sweeps/x/ckpt", step), ("sweeps/y/ckpt", step))
                await until(lambda: 2 * step == len(got))  # noqa: B023
                shutil.rmtree(tmp_path / "sweeps")
                await until(lambda: not stream.status().runs)
            group.cancel_scope.cancel()

    assert [(f"sweeps/{run}/ckpt", step) for step in (1, 2) for run in "xy"] == sorted(
        got, key=lambda item: (item[1], item[0])
    )
    (pattern,) = stream.status().patterns
    assert ("poll", "as asked", before) == (
        pattern.watcher,
        pattern.watcher_reason,
        inotify_descriptors(),
    )


# The same with looks that a test asks for: what is delivered again, and what is missed.


async def test_a_run_that_comes_back_brings_nothing_twice(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    But its new ones, and what was written again.
    """
    finish(tmp_path, ("x", 1), ("x", 2))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    first = await news(stream, watcher, tmp_path)
    (tmp_path / "x").rename(tmp_path / ".x")
    gone = await news(stream, watcher, tmp_path), runs_of(stream, tmp_path)
    (tmp_path / ".x").rename(tmp_path / "x")
    same = await news(stream, watcher, tmp_path), runs_of(stream, tmp_path)
    finish(tmp_path, ("x", 3))

    assert ([("x", 1), ("x", 2)], ([], []), ([], ["x"])) == (first, gone, same)
    assert [("x", 3)] == await news(stream, watcher, tmp_path)


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_newest_one_of_a_run_that_came_back_is_seen_when_written_again(
    tmp_path: Path, comes_back: bool
) -> None:
    """
    The newest three of each run are watched, of one that had left, too.
    """
    finish(tmp_path, ("x", 1), ("x", 2))
    async with reading(sweep_of(tmp_path / "*"), tmp_path) as reader:
        await reader.until(("x", 1), ("x", 2))
        if comes_back:
            (tmp_path / "x").rename(tmp_path / ".x")
            await until(lambda: [] == runs_of(reader.stream, tmp_path))
            (tmp_path / ".x").rename(tmp_path / "x")
            await until(lambda: ["x"] == runs_of(reader.stream, tmp_path))
        await at_rest(reader.stream)
        (tmp_path / "x/step_2/DONE").write_text("again")
        await until(lambda: 2 == reader.got.count(("x", 2)))

    assert [("x", 1), ("x", 2), ("x", 2)] == reader.got


async def test_a_run_that_is_renamed_is_another_one(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    A run is its path: all of it comes again, under the new name; and not when it returns.
    """
    finish(tmp_path, ("x", 1))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    first = await news(stream, watcher, tmp_path)
    (tmp_path / "x").rename(tmp_path / "y")
    renamed = await news(stream, watcher, tmp_path), runs_of(stream, tmp_path)
    (tmp_path / "y").rename(tmp_path / "x")
    returned = await news(stream, watcher, tmp_path), runs_of(stream, tmp_path)

    assert [("x", 1)] == first
    assert (([("y", 1)], ["y"]), ([], ["x"])) == (renamed, returned)


async def test_two_runs_that_change_places(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    Neither leaves, and each brings what the other one had.
    """
    finish(tmp_path, ("x", 1), ("y", 2))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    await news(stream, watcher, tmp_path)
    for old, new in (("x", ".x"), ("y", "x"), (".x", "y")):
        (tmp_path / old).rename(tmp_path / new)

    assert [("x", 2), ("y", 1)] == await news(stream, watcher, tmp_path)
    assert [("x", 0), ("y", 0)] == [
        (os.path.basename(run.run), run.missed_count) for run in stream.status().runs
    ]
