"""
`latest_only`, and the TensorFlow contract: the newest that is finished when the caller asks.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest
from steering import HeldWatcher, half_save, missed, rest, run_status, steps, virtual

from ckptstream import checkpoints_iterator, follow
from ckptstream.testing import ManualWatcher, save

pytestmark = pytest.mark.anyio


async def test_only_the_newest_is_delivered(run: Path, watcher: ManualWatcher) -> None:
    """
    What a delivery passes over counts as skipped, and never comes back.
    """
    for step in (1, 2, 3):
        save(run, step)
    stream = follow(run, latest_only=True, watcher=watcher)
    assert [3] == await steps(stream, watcher)
    assert (2, []) == (run_status(stream).skipped, missed(stream))
    shutil.rmtree(run / "checkpoint-3")
    watcher.touch()
    watcher.event("checkpoint-1")
    watcher.event("checkpoint-2")

    assert [] == await steps(stream, watcher)
    assert [] == missed(stream)


async def test_it_is_the_newest_when_the_caller_asks(run: Path, watcher: ManualWatcher) -> None:
    """
    Not when the last call was answered.
    """
    stream = follow(run, latest_only=True, watcher=watcher)
    save(run, 1)
    found = [(await anext(stream)).step]
    for step in (2, 3, 4):
        save(run, step)
        watcher.event(f"checkpoint-{step}", arrived=True)
    found.append((await anext(stream)).step)
    save(run, 5)
    watcher.touch()
    found.append((await anext(stream)).step)

    assert [1, 4, 5] == found
    assert 2 == run_status(stream).skipped


async def test_what_an_event_tells_of_during_the_look_is_looked_at_first(run: Path) -> None:
    """
    A verified checkpoint is not the newest while there is news of another.
    """
    watcher = HeldWatcher()
    save(run, 1)
    stream = follow(run, latest_only=True, watcher=watcher)
    found = list[int | None]()

    async def ask() -> None:
        found.append((await anext(stream)).step)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await watcher.waiting()
        assert 1 == watcher.held
        save(run, 2)
        watcher.event("checkpoint-2", arrived=True)
        watcher.holds = False
        watcher.answer()

    assert [2] == found


async def test_without_events_the_caller_asks_the_disk(run: Path) -> None:
    """
    What is polled is listed for this call, if there is something to deliver.
    """
    watcher = ManualWatcher(events=False)
    for step in (1, 2):
        save(run, step)
    stream = follow(run, latest_only=True, watcher=watcher)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anext(stream)
    assert 2 == (await anext(stream)).step
    save(run, 3)
    watcher.touch()
    assert [3] == await steps(stream, watcher)


@virtual
async def test_without_events_a_newer_one_goes_before_the_queued(run: Path) -> None:
    """
    A listing that was made before the caller asked does not tell what is newest.
    """
    watcher = ManualWatcher(events=False)
    save(run, 1)
    stream = follow(
        run, latest_only=True, min_interval_secs=10.5, poll_interval=100, watcher=watcher
    )
    assert 1 == (await anext(stream)).step
    save(run, 2)
    watcher.touch()
    with anyio.move_on_after(5):
        await anext(stream)
    assert 1 == run_status(stream).queued
    await anyio.sleep(20)
    save(run, 3)

    assert 3 == (await anext(stream)).step


async def test_a_newest_that_is_gone_leaves_the_one_before(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    The newest that is still there; the other is missed.
    """
    save(run, 1)
    stream = follow(run, latest_only=True, watcher=watcher)
    assert [1] == await steps(stream, watcher)
    for step in (2, 3):
        save(run, step)
        watcher.event(f"checkpoint-{step}", arrived=True)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anext(stream)
    shutil.rmtree(run / "checkpoint-3")

    assert [2] == await steps(stream, watcher)
    assert [(3, False)] == missed(stream)


async def test_an_older_one_that_is_deleted_is_skipped(run: Path, watcher: ManualWatcher) -> None:
    """
    Nobody would have got it.
    """
    for step in (1, 2):
        save(run, step)
    stream = follow(run, latest_only=True, min_interval_secs=1000, watcher=watcher)
    assert [2] == await steps(stream, watcher)
    for step in (3, 4):
        save(run, step)
    watcher.touch()
    assert [] == await steps(stream, watcher)
    shutil.rmtree(run / "checkpoint-3")
    watcher.touch()
    assert [] == await steps(stream, watcher)

    assert (2, []) == (run_status(stream).skipped, missed(stream))


async def test_an_unfinished_one_is_not_the_newest(run: Path, watcher: ManualWatcher) -> None:
    """
    It comes when it is finished.
    """
    save(run, 1)
    half_save(run, 2)
    stream = follow(run, latest_only=True, watcher=watcher)
    assert [1] == await steps(stream, watcher)
    save(run, 2)
    watcher.touch()

    assert [2] == await steps(stream, watcher)


async def test_a_lower_step_saved_later_is_the_newest(run: Path, watcher: ManualWatcher) -> None:
    """
    A rollback is news.
    """
    save(run, 30)
    stream = follow(run, latest_only=True, watcher=watcher)
    assert [30] == await steps(stream, watcher)
    for step in (40, 10):
        save(run, step)
        watcher.event(f"checkpoint-{step}", arrived=True)

    assert [10] == await steps(stream, watcher)


async def test_the_pointers_word_goes_before_the_step(run: Path, watcher: ManualWatcher) -> None:
    """
    TensorFlow's state file says which one is the latest.
    """
    for step in (1, 2, 3):
        save(run, step, "tensorflow", earlier=range(1, step))
    state = run / "checkpoint"
    names = "".join(f'all_model_checkpoint_paths: "ckpt-{step}"\n' for step in (1, 2, 3))
    state.write_text(f'model_checkpoint_path: "ckpt-2"\n{names}')
    stream = follow(run, latest_only=True, watcher=watcher)
    assert [2] == await steps(stream, watcher)
    state.write_text(f'model_checkpoint_path: "ckpt-3"\n{names}')
    watcher.event("checkpoint")

    assert [3] == await steps(stream, watcher)


@virtual
async def test_what_the_pointer_has_not_named_yet_is_not_passed_over(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    It waits for the state file's word, and comes then.
    """
    save(run, 1, "tensorflow")
    stream = follow(run, latest_only=True, watcher=watcher)
    assert 1 == (await anext(stream)).step
    state = (run / "checkpoint").read_bytes()
    save(run, 2, "tensorflow", earlier=[1])
    named = (run / "checkpoint").read_bytes()
    (run / "checkpoint").write_bytes(state)
    watcher.touch()
    with anyio.move_on_after(60) as patience:
        await anext(stream)
    assert patience.cancelled_caught
    (run / "checkpoint").write_bytes(named)
    watcher.touch()

    assert 2 == (await anext(stream)).step


@virtual
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("layout", ["megatron", "verl", "deepspeed", "tensorflow"])
async def test_the_pointers_word_holds_where_several_layouts_share_it(
    run: Path, watcher: ManualWatcher, layout: str, named: bool
) -> None:
    """
    Megatron's and verl's have one name; what settles after the newest is no news.
    """
    save(run, 1, layout)
    stream = follow(
        run, layout=layout if named else "auto", latest_only=True, timeout=60, watcher=watcher
    )
    assert 1 == (await anext(stream)).step
    await anyio.sleep(60)
    for step in (2, 3, 4):
        save(run, step, layout, earlier=range(1, step))
    watcher.touch()

    assert [4] == await rest(stream)


async def test_a_pointer_to_what_is_gone_is_no_word(run: Path, watcher: ManualWatcher) -> None:
    """
    The newest that is there is delivered.
    """
    for step in (1, 2, 3):
        save(run, step, "tensorflow", earlier=range(1, step))
    for path in run.glob("ckpt-3.*"):
        path.unlink()
    stream = follow(run, latest_only=True, watcher=watcher)

    assert [2] == await steps(stream, watcher)


async def test_until_step_with_latest_only(run: Path, watcher: ManualWatcher) -> None:
    """
    The newest reaches it; what was passed over is not delivered afterwards.
    """
    for step in (3, 5, 7):
        save(run, step)

    assert [7] == await rest(follow(run, latest_only=True, until_step=5, watcher=watcher))


async def test_until_step_with_latest_only_goes_on_before_it(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    And ends exactly there.
    """
    stream = follow(run, latest_only=True, until_step=5, watcher=watcher)
    for step in (2, 4):
        save(run, step)
    assert [4] == await steps(stream, watcher)
    save(run, 5)
    watcher.touch()

    assert [5] == await rest(stream)


async def test_skip_existing_with_latest_only(run: Path, watcher: ManualWatcher) -> None:
    """
    What is there at first is not the newest for anybody.
    """
    for step in (1, 2):
        save(run, step)
    stream = follow(run, latest_only=True, skip_existing=True, watcher=watcher)
    assert [] == await steps(stream, watcher)
    for step in (3, 4):
        save(run, step)
    watcher.touch()

    assert [4] == await steps(stream, watcher)
    assert 3 == run_status(stream).skipped


async def test_the_tensorflow_contract_gives_the_newest_only(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    As `follow(latest_only=True)`.
    """
    for step in (1, 2, 3):
        save(run, step)
    paths = checkpoints_iterator(run, 0, 0, watcher=watcher)

    assert [str(run / "checkpoint-3")] == [path async for path in paths]
    assert 2 == paths.status().runs[0].skipped
