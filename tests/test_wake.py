"""
`wake()` with paths: somebody else has heard of something, and says where.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from steering import drained

import ckptstream.sync
from ckptstream import CheckpointStream, follow
from ckptstream.testing import ManualWatcher, save

pytestmark = pytest.mark.anyio


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """
    Two, one checkpoint in each.
    """
    found = tmp_path / "a", tmp_path / "b"
    for run in found:
        save(run, 1)
    return found


async def found_after(
    stream: CheckpointStream, watcher: ManualWatcher, *paths: str | Path
) -> list[tuple[str, int | None]]:
    """
    What comes if the stream is told of these.
    """
    stream.wake(*paths)
    return [(Path(ckpt.run).name, ckpt.step) for ckpt in await drained(stream, watcher)]


@pytest.mark.parametrize("inside", ["", "/", "/checkpoint-2", "/checkpoint-2/trainer_state.json"])
async def test_only_the_run_that_is_named_is_looked_at(
    runs: tuple[Path, Path], watcher: ManualWatcher, inside: str
) -> None:
    """
    By itself, or by what lies in it; nothing is asked of the other.
    """
    stream = follow(*runs, watcher=watcher)
    await drained(stream, watcher)
    for run in runs:
        save(run, 2)

    assert [("a", 2)] == await found_after(stream, watcher, f"{runs[0]}{inside}")
    assert [("b", 2)] == await found_after(stream, watcher, runs[1])


async def test_several_are_named(runs: tuple[Path, Path], watcher: ManualWatcher) -> None:
    """
    One in each of them.
    """
    stream = follow(*runs, watcher=watcher)
    await drained(stream, watcher)
    for run in runs:
        save(run, 2)

    assert {("a", 2), ("b", 2)} == {*await found_after(stream, watcher, *runs)}


async def test_a_run_that_was_given_with_a_slash(
    runs: tuple[Path, Path], watcher: ManualWatcher
) -> None:
    """
    It is the same one.
    """
    stream = follow(f"{runs[0]}/", watcher=watcher)
    await drained(stream, watcher)
    save(runs[0], 2)

    assert [("a", 2)] == await found_after(stream, watcher, runs[0])


@pytest.mark.parametrize("path", ["/elsewhere/a", "a", "checkpoint-2", "s3://bucket/a/x"])
async def test_what_lies_in_none_of_the_runs(
    runs: tuple[Path, Path], watcher: ManualWatcher, path: str
) -> None:
    """
    Counts for nothing: whoever hears of a bucket's objects hears of all of them.
    """
    stream = follow(*runs, watcher=watcher)
    await drained(stream, watcher)
    save(runs[0], 2)

    assert [] == await found_after(stream, watcher, path)


async def test_a_directory_whose_name_only_begins_like_the_run(
    runs: tuple[Path, Path], watcher: ManualWatcher
) -> None:
    """
    Is another one.
    """
    stream = follow(*runs, watcher=watcher)
    await drained(stream, watcher)
    save(runs[0], 2)

    assert [] == await found_after(stream, watcher, f"{runs[0]}a/checkpoint-2")


async def test_a_pattern_finds_the_new_run(runs: tuple[Path, Path], watcher: ManualWatcher) -> None:
    """
    Of which something was said.
    """
    root = runs[0].parent
    stream = follow(root / "*", watcher=watcher)
    await drained(stream, watcher)
    save(root / "c", 1)
    save(root / "d", 1)

    assert [("c", 1)] == await found_after(stream, watcher, root / "c/checkpoint-1/model.bin")


async def test_an_object_that_is_gone_already(
    runs: tuple[Path, Path], watcher: ManualWatcher
) -> None:
    """
    Events come late, and more than once: nothing is missed for that.
    """
    stream = follow(*runs, watcher=watcher)
    await drained(stream, watcher)

    assert [] == await found_after(stream, watcher, runs[0] / "checkpoint-9/model.bin")
    assert [0, 0] == [run.missed_count for run in stream.status().runs]


@pytest.mark.parametrize(("path", "error"), [(7, TypeError), ("", ValueError), (b"a", TypeError)])
async def test_what_is_no_path(path: object, error: type[Exception]) -> None:
    """
    Is refused, by the blocking twin as well.
    """
    with pytest.raises(error, match="path="):
        follow("run").wake(path)  # type: ignore[arg-type]
    with pytest.raises(error, match="path="):
        ckptstream.sync.follow("run").wake(path)  # type: ignore[arg-type]


def test_the_blocking_twin(runs: tuple[Path, Path]) -> None:
    """
    It is told from any thread.
    """
    stream = ckptstream.sync.follow(*runs, watcher="poll", poll_interval=1000.0)
    found = [next(stream).run, next(stream).run]
    save(runs[1], 2)
    stream.wake(runs[1])

    assert {str(run) for run in runs} == {*found}
    assert (str(runs[1]), 2) == ((last := next(stream)).run, last.step)
    stream.close()
