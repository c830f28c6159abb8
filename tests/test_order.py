"""
The order of checkpoints within a run: by step at first, later by stamps, events, or step.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from steering import drained, steps

from ckptstream import follow
from ckptstream.testing import ManualWatcher, save

pytestmark = pytest.mark.anyio


def age(path: Path, mtime: int) -> None:
    """
    Give a whole checkpoint another time, as a copy would.
    """
    for each in (path, *path.rglob("*")):
        os.utime(each, (mtime, mtime))


@pytest.mark.parametrize("layout", ["hf", "orbax", "step_{step}/DONE"])
async def test_what_the_first_look_finds_comes_by_step(
    run: Path, watcher: ManualWatcher, layout: str
) -> None:
    """
    As a number, whatever was saved last and whatever the stamps say.
    """
    for step in (100, 9, 20, 3):
        save(run, step, layout)
    stream = follow(run, layout=layout if "{" in layout else "auto", watcher=watcher)

    assert [3, 9, 20, 100] == await steps(stream, watcher)


async def test_padded_steps_are_numbers(run: Path, watcher: ManualWatcher) -> None:
    """
    `step_0009` comes before `step_10`.
    """
    for name in ("step_10", "step_0009", "step_00100"):
        (run / name).mkdir()
        (run / name / "DONE").touch()
    stream = follow(run, layout="step_{step}/DONE", watcher=watcher)

    assert [9, 10, 100] == await steps(stream, watcher)


async def test_the_first_look_believes_no_event_order(run: Path, watcher: ManualWatcher) -> None:
    """
    What came before it cannot all have been told.
    """
    stream = follow(run, watcher=watcher)
    stream.wake()
    for step in (20, 10):
        save(run, step)
        watcher.event(f"checkpoint-{step}", arrived=True)

    assert [10, 20] == await steps(stream, watcher)


async def test_later_finds_come_by_commit_stamp(run: Path, watcher: ManualWatcher) -> None:
    """
    If all of them have one, a listing too knows what was committed first.
    """
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    for step in (30, 10, 20):
        save(run, step, "orbax")
    watcher.touch()

    assert [30, 10, 20] == await steps(stream, watcher)


async def test_stamps_go_before_events(run: Path, watcher: ManualWatcher) -> None:
    """
    Events of a tree that is moved in say nothing of who was first.
    """
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    for step in (30, 10, 20):
        save(run, step, "orbax")
    for step in (10, 20, 30):
        watcher.event(str(step), arrived=True)

    assert [30, 10, 20] == await steps(stream, watcher)


async def test_without_stamps_they_come_as_the_events_did(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    A rollback between two looks keeps its order.
    """
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    for step in (30, 10, 20):
        save(run, step)
        watcher.event(f"checkpoint-{step}", arrived=True)

    assert [30, 10, 20] == await steps(stream, watcher)


async def test_the_last_event_of_each_counts(run: Path, watcher: ManualWatcher) -> None:
    """
    The one that was begun first may be finished last.
    """
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    for step in (10, 20, 10):
        save(run, step)
        watcher.event(f"checkpoint-{step}", arrived=True)

    assert [20, 10] == await steps(stream, watcher)


async def test_one_without_a_stamp_leaves_it_to_the_events(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Stamps order only what all have.
    """
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    for step, layout, name in ((20, "orbax", "20"), (10, "hf", "checkpoint-10"), (5, "orbax", "5")):
        save(run, step, layout)
        watcher.event(name, arrived=True)

    assert [20, 10, 5] == await steps(stream, watcher)


async def test_with_events_lost_they_come_by_step(run: Path, watcher: ManualWatcher) -> None:
    """
    After an overflow a listing has to do.
    """
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    for step in (30, 10, 20):
        save(run, step)
        watcher.event(f"checkpoint-{step}", arrived=True)
    watcher.touch()

    assert [10, 20, 30] == await steps(stream, watcher)


async def test_file_times_prove_nothing(run: Path, watcher: ManualWatcher) -> None:
    """
    In a copied directory they are the copy's.
    """
    for number, step in enumerate((30, 10, 20)):
        save(run, step)
        age(run / f"checkpoint-{step}", 1_000_000 + number)
    stream = follow(run, watcher=watcher)
    assert [10, 20, 30] == await steps(stream, watcher)
    for number, step in enumerate((60, 40, 50)):
        save(run, step)
        age(run / f"checkpoint-{step}", 2_000_000 + number)
    watcher.touch()

    assert [40, 50, 60] == await steps(stream, watcher)


async def test_a_rollback_that_rewrites_earlier_steps(run: Path, watcher: ManualWatcher) -> None:
    """
    Each generation comes once, in the order in which they were saved.
    """
    stream = follow(run, watcher=watcher)
    found = list[int | None]()
    for step in (10, 20, 30, 20, 30, 40):
        shutil.rmtree(run / f"checkpoint-{step}", ignore_errors=True)
        save(run, step)
        watcher.event(f"checkpoint-{step}", arrived=True)
        found += await steps(stream, watcher)

    assert [10, 20, 30, 20, 30, 40] == found


async def test_what_has_no_step_comes_by_name(run: Path, watcher: ManualWatcher) -> None:
    """
    Numbers in it compared as numbers, before what has a step.
    """
    for name in ("model10", "model9", "ckpt-1"):
        save(run, 1, "tensorflow")
        for path in list(run.glob("ckpt-1.*")):
            if name != "ckpt-1":
                path.rename(run / path.name.replace("ckpt-1", name))
    (run / "checkpoint").write_text(
        'model_checkpoint_path: "ckpt-1"\n'
        + "".join(f'all_model_checkpoint_paths: "{n}"\n' for n in ("model9", "model10", "ckpt-1"))
    )
    found = await drained(follow(run, watcher=watcher), watcher)

    names = [os.path.basename(checkpoint.path) for checkpoint in found]
    assert ["model9", "model10", "ckpt-1"] == names
    assert [None, None, 1] == [checkpoint.step for checkpoint in found]


async def test_a_backlog_keeps_its_order_while_more_comes(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    What is found later comes later.
    """
    for step in (10, 20):
        save(run, step)
    stream = follow(run, watcher=watcher)
    found = [(await anext(stream)).step]
    save(run, 5)
    watcher.event("checkpoint-5", arrived=True)

    assert [10, 20, 5] == found + await steps(stream, watcher)
