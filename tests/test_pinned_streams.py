"""
`follow(pin=True)`: what arrives is pinned until it is done, whatever the trainer deletes.
"""

from __future__ import annotations

import errno
import os
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from observing import until
from pinning import left, no_links
from steering import missed, rest, run_status, virtual
from sweeping import LAYOUT

import ckptstream
import ckptstream.sync
from ckptstream import Checkpoint, CheckpointStream, PinUnsupported
from ckptstream.testing import ManualWatcher

pytestmark = pytest.mark.anyio


def follow(run: Path, watcher: ManualWatcher, **options: Any) -> CheckpointStream:
    """
    A stream that only the test and the time wake.
    """
    return ckptstream.follow(run, **{"layout": LAYOUT, "pin": True, "watcher": watcher, **options})


def content(checkpoint: Checkpoint) -> str:
    """
    What the trainer wrote into it.
    """
    return Path(checkpoint, "weights").read_text()


SIZES = count()


def train(run: Path, step: int, text: str = "") -> None:
    """
    Save a step, in one instant.
    """
    hidden = run / f".being-written-{step}"
    hidden.mkdir()
    (hidden / "weights").write_text(text or f"of {step}")
    # Inode and time may be those of one that was deleted a moment ago.
    (hidden / "DONE").write_bytes(b" " * next(SIZES))
    hidden.rename(run / f"step_{step}")


def delete(run: Path, *steps: int) -> None:
    for step in steps:
        shutil.rmtree(run / f"step_{step}")


async def noticed(watcher: ManualWatcher) -> None:
    """
    Tell that something has happened, and wait until it was looked at.
    """
    watcher.touch()
    await watcher.waiting()


@virtual
async def test_a_slow_evaluator_misses_nothing(run: Path, watcher: ManualWatcher) -> None:
    """
    While it is at the first one the trainer saves four more, and keeps only the newest.
    """
    train(run, 1)
    found = dict[int | None, str]()
    async with follow(run, watcher, timeout=60) as stream:
        async for checkpoint in stream:
            for step in range(2, 6) if checkpoint.step == 1 else ():
                train(run, step)
                await noticed(watcher)
                delete(run, step - 1)
                await noticed(watcher)
            found[checkpoint.step] = content(checkpoint)

    assert {step: f"of {step}" for step in range(1, 6)} == found
    assert [] == missed(stream)
    assert [] == left(run)


@virtual
async def test_the_run_is_the_one_that_was_named(run: Path, watcher: ManualWatcher) -> None:
    """
    The path is the pin's, whose last part is the checkpoint's name.
    """
    train(run, 1)
    async with follow(run, watcher) as stream:
        checkpoint = await anext(stream)
        (pin,) = {name for name in left(run) if not name.endswith(".lock")}
        assert os.path.join(run.parent, ".ckptstream-pins", pin, "step_1") == checkpoint.path
        assert (str(run), 1, LAYOUT) == (checkpoint.run, checkpoint.step, checkpoint.layout)
        status = run_status(stream)
        assert status.newest is not None
        assert str(run / "step_1") == status.newest.path
        assert ("step_1",) == status.pinned
        assert "  pinned: step_1" in str(status)


@virtual
async def test_without_a_block_it_is_refused(run: Path, watcher: ManualWatcher) -> None:
    """
    There is nothing that a task could live in.
    """
    stream = follow(run, watcher)
    with pytest.raises(RuntimeError, match=r"pin=True needs a block, .* 'async with"):
        await anext(stream)

    train(run, 1)
    async with stream:
        assert 1 == (await anext(stream)).step
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


def test_without_a_block_it_is_refused_in_blocking_code(run: Path) -> None:
    """
    The same word for both.
    """
    train(run, 1)
    stream = ckptstream.sync.follow(run, layout=LAYOUT, pin=True)
    with pytest.raises(RuntimeError, match="pin=True needs a block"):
        next(stream)
    with stream:
        assert "of 1" == content(next(stream))
    assert [] == left(run)


@virtual
async def test_the_block_is_entered_once(run: Path, watcher: ManualWatcher) -> None:
    """
    It has ended with its block.
    """
    stream = follow(run, watcher)
    async with stream:
        with pytest.raises(RuntimeError, match="entered once"):
            await stream.__aenter__()
    with pytest.raises(RuntimeError, match="entered once"):
        await stream.__aenter__()


@pytest.mark.parametrize("pin", [True, 3])
@virtual
async def test_so_many_wait_pinned(run: Path, watcher: ManualWatcher, pin: bool | int) -> None:
    """
    What comes later is pinned when one of them is done; deleted before, it is missed.
    """
    bound = 8 if pin is True else pin
    for step in range(bound + 4):
        train(run, step)
    async with follow(run, watcher, pin=pin, timeout=60) as stream:
        await watcher.waiting()
        # The next one, and so many others.
        assert tuple(f"step_{step}" for step in range(bound + 1)) == run_status(stream).pinned
        first = await anext(stream)
        await watcher.waiting()
        assert bound + 2 == len(run_status(stream).pinned)
        delete(run, *range(bound + 4))
        await noticed(watcher)
        assert "of 0" == content(first)

        assert list(range(1, bound + 2)) == await rest(stream)
        assert [(bound + 2, True), (bound + 3, True)] == missed(stream)


@virtual
async def test_what_until_step_leaves_out_is_not_pinned(run: Path, watcher: ManualWatcher) -> None:
    """
    It was, as long as it might have come; once released, it is not pinned again.
    """
    for step in range(1, 5):
        train(run, step)
    async with follow(run, watcher, until_step=2) as stream:
        await anext(stream)
        await anext(stream)
        await watcher.waiting()
        assert ("step_2",) == run_status(stream).pinned
        assert [] == await rest(stream)


@pytest.mark.parametrize("how", ["next", "done", "failed", "end"])
async def test_it_is_released_when_it_is_done(
    run: Path, tmp_path: Path, watcher: ManualWatcher, how: str
) -> None:
    """
    Not before; by whatever way.
    """
    train(run, 1)
    options: dict[str, Any] = {}
    if how != "next":
        options = {"cursor": tmp_path / "evals.db", "done": "explicit"}
    async with follow(run, watcher, **options) as stream:
        first = await anext(stream)
        delete(run, 1)
        train(run, 2)
        await noticed(watcher)
        assert "of 1" == content(first)
        if how == "done":
            await stream.done(first)
        elif how == "failed":
            await stream.failed(first, "no")
        elif how == "next":
            await anext(stream)
        else:
            await stream.aclose()
            assert "of 1" == content(first)
            return
        await until(lambda: not os.path.exists(first))
        assert ("step_2",) == run_status(stream).pinned
    assert [] == left(run)


class BodyError(Exception):
    pass


@virtual
async def test_an_exception_leaves_the_block_alone(run: Path, watcher: ManualWatcher) -> None:
    """
    In no group of exceptions; what was pinned is released, and comes again.
    """
    train(run, 1)
    stream = follow(run, watcher)
    with pytest.raises(BodyError):  # noqa: PT012  # It is about the block.
        async with stream:
            await anext(stream)
            raise BodyError

    assert [] == left(run)
    async with follow(run, watcher, timeout=60) as stream:
        assert [1] == await rest(stream)


@virtual
async def test_it_is_written_again_while_it_waits(run: Path, watcher: ManualWatcher) -> None:
    """
    The first one is delivered from its pin, and then the second, both whole.
    """
    train(run, 1)
    train(run, 2, "first")
    found = list[str]()
    async with follow(run, watcher, timeout=60) as stream:
        await anext(stream)
        delete(run, 2)
        train(run, 2, "second")
        await noticed(watcher)
        async for checkpoint in stream:
            found.append(content(checkpoint))

    assert ["first", "second"] == found
    assert [] == missed(stream)


@virtual
async def test_it_is_deleted_and_something_unfinished_takes_its_place(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    As with a trainer that crashes while it saves again.
    """
    train(run, 1)
    train(run, 2, "first")
    async with follow(run, watcher, timeout=60) as stream:
        await anext(stream)
        delete(run, 2)
        (run / "step_2").mkdir()
        await noticed(watcher)

        checkpoint = await anext(stream)
        assert "first" == content(checkpoint)
        (run / "step_2" / "DONE").touch()
        watcher.touch()
        assert 2 == (await anext(stream)).step
        assert [] == await rest(stream)


@virtual
async def test_a_link_is_the_same_file(run: Path, watcher: ManualWatcher) -> None:
    """
    What is written into in place, and then deleted, is not handed out half: it is missed.
    """
    train(run, 1)
    train(run, 2)
    async with follow(run, watcher, timeout=60) as stream:
        await anext(stream)
        await watcher.waiting()
        with (run / "step_2" / "weights").open("r+") as file:
            file.write("half")
        delete(run, 2)
        await noticed(watcher)

        assert [] == await rest(stream)
        assert [(2, True)] == missed(stream)
    assert [] == left(run)


@virtual
async def test_it_is_written_into_after_it_was_seen_unfinished(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    By a writer that takes the marker away first, and overwrites files in place much later.
    """
    train(run, 1)
    train(run, 2)
    async with follow(run, watcher, timeout=60) as stream:
        await anext(stream)
        await watcher.waiting()
        (run / "step_2" / "DONE").unlink()
        await noticed(watcher)
        with (run / "step_2" / "weights").open("r+") as file:
            file.write("half")

        assert [] == await rest(stream)
        assert [(2, True)] == missed(stream)


@virtual
async def test_what_was_only_unfinished_for_a_while_comes_once(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Its marker was taken away and put back by a rename: it is the same generation.
    """
    train(run, 1)
    train(run, 2)
    async with follow(run, watcher, timeout=60) as stream:
        await anext(stream)
        await watcher.waiting()
        (run / "step_2" / "DONE").rename(run / "DONE")
        await noticed(watcher)
        (run / "DONE").rename(run / "step_2" / "DONE")
        await noticed(watcher)

        assert [2] == await rest(stream)


@virtual
async def test_it_comes_back_when_what_took_its_place_has_gone(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    That one was never pinned, and is missed; the first one comes once.
    """
    for step in (1, 2, 3):
        train(run, step)
    async with follow(run, watcher, pin=1, timeout=60) as stream:
        await anext(stream)
        await watcher.waiting()
        (run / "step_3").rename(run / "elsewhere")
        await noticed(watcher)
        train(run, 3, "second")
        await noticed(watcher)
        delete(run, 3)
        await noticed(watcher)
        (run / "elsewhere").rename(run / "step_3")
        await noticed(watcher)

        assert ["of 2", "of 3"] == [content(checkpoint) async for checkpoint in stream]
        assert [(3, True)] == missed(stream)


@virtual
async def test_each_comes_in_its_turn(run: Path, watcher: ManualWatcher) -> None:
    """
    Also those that are there no more, between others that are.
    """
    for step in range(1, 7):
        train(run, step)
    async with follow(run, watcher, timeout=60) as stream:
        await anext(stream)
        await watcher.waiting()
        delete(run, 3, 5)
        await noticed(watcher)

        assert [2, 3, 4, 5, 6] == await rest(stream)


@virtual
async def test_the_whole_run_is_deleted(run: Path, watcher: ManualWatcher) -> None:
    """
    What is pinned lies beside it, and is still delivered.
    """
    train(run, 1)
    train(run, 2)
    async with follow(run, watcher, timeout=60) as stream:
        first = await anext(stream)
        await watcher.waiting()
        shutil.rmtree(run)
        await noticed(watcher)

        assert "of 1" == content(first)
        assert "of 2" == content(await anext(stream))
        assert [] == await rest(stream)
        assert [] == missed(stream)


@virtual
async def test_the_whole_run_is_deleted_with_some_that_are_not_pinned(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    These are missed when the stream ends, which rests until then.
    """
    for step in range(1, 6):
        train(run, step)
    async with follow(run, watcher, pin=1, timeout=60) as stream:
        await anext(stream)
        await watcher.waiting()
        shutil.rmtree(run)
        await noticed(watcher)

        assert [2, 3] == await rest(stream)
        assert [(4, True), (5, True)] == missed(stream)


@virtual
async def test_the_whole_run_is_deleted_with_what_has_failed(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    By its name, it is missed when the stream ends before it comes again.
    """
    train(run, 1)
    async with follow(run, watcher, timeout=5, retries=1) as stream:
        first = await anext(stream)
        await watcher.waiting()
        await stream.failed(first, "no")
        shutil.rmtree(run)
        await noticed(watcher)
        assert [] == await rest(stream)
        assert [str(run / "step_1")] == [each.path for each in run_status(stream).missed]


@virtual
@pytest.mark.parametrize("comes_back", [False, True])
async def test_the_whole_run_is_deleted_with_more_than_stays_pinned(
    run: Path, watcher: ManualWatcher, comes_back: bool
) -> None:
    """
    What must not stay pinned is missed; also when the run comes back without it.
    """
    for step in (1, 2, 3):
        train(run, step)
    async with follow(run, watcher, pin=1, retries=1, timeout=60) as stream:
        for _ in range(3):
            await stream.failed(await anext(stream), "no")
        shutil.rmtree(run)
        await noticed(watcher)
        if comes_back:
            run.mkdir()
            train(run, 4)
        came = await rest(stream)
        lost = [step for step, _ in missed(stream)]

    assert [1, 2, 3, 4][: 3 + comes_back] == sorted(came + lost, key=str)


async def test_a_run_that_leaves_its_pattern(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    What waits of it is missed; what is out stays pinned until it is done.
    """
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    train(tmp_path / "a", 1)
    train(tmp_path / "a", 2)
    async with follow(tmp_path / "*", watcher) as stream:
        first = await anext(stream)
        await watcher.waiting()
        shutil.rmtree(tmp_path / "a")
        await noticed(watcher)
        assert "of 1" == content(first)
        await until(lambda: 2 == len(left(tmp_path / "a")))  # with its owner's file
        gone = next(status for status in stream.status().runs if status.run.endswith("a"))
        assert [2] == [each.step for each in gone.missed]

        train(tmp_path / "b", 3)
        watcher.touch()
        assert 3 == (await anext(stream)).step
        await until(lambda: not os.path.exists(first))


async def test_what_fails_of_a_run_that_has_left_is_missed(
    tmp_path: Path, watcher: ManualWatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Nothing of it can be delivered again, so its pin is not kept for that.
    """
    run = tmp_path / "a"
    run.mkdir()
    train(run, 1)
    async with follow(tmp_path / "*", watcher, retries=1) as stream:
        first = await anext(stream)
        shutil.rmtree(run)
        await noticed(watcher)
        await stream.failed(first, "no")
        await until(lambda: not os.path.exists(first))
        (status,) = stream.status().runs
        assert [(1, True)] == [(each.step, each.finished) for each in status.missed]
    texts = [record.getMessage() for record in caplog.records]
    assert any(text.endswith("has failed: no; it is not delivered again") for text in texts)
    assert any(text.startswith(f"{run / 'step_1'}: missed, ") for text in texts)


@virtual
async def test_only_the_newest(run: Path, watcher: ManualWatcher) -> None:
    """
    It is pinned as long as it is that.
    """
    train(run, 1)
    async with follow(run, watcher, latest_only=True, timeout=60) as stream:
        for step in (2, 3, 4):
            train(run, step)
            await noticed(watcher)
        assert ("step_4",) == run_status(stream).pinned
        checkpoint = await anext(stream)
        delete(run, 4)
        assert "of 4" == content(checkpoint)
        assert [] == await rest(stream)


# Attempts that fail.


@virtual
async def test_what_has_failed_comes_again_from_its_pin(run: Path, watcher: ManualWatcher) -> None:
    """
    It was deleted while it was evaluated, or after that.
    """
    train(run, 1)
    train(run, 2)
    async with follow(run, watcher, retries=1, timeout=60) as stream:
        first = await anext(stream)
        delete(run, 1)
        await noticed(watcher)
        await stream.failed(first, "no")
        await stream.failed(await anext(stream), "no")
        delete(run, 2)
        await noticed(watcher)

        again = await anext(stream)
        assert (1, "of 1") == (again.step, content(again))
        assert [2] == await rest(stream)
        assert [] == missed(stream)


@virtual
async def test_what_has_failed_takes_up_no_more_than_was_allowed(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    With pin=1 one of them is kept, beside the next one; the others are missed once they are gone.
    """
    async with follow(run, watcher, retries=1, timeout=60, pin=1) as stream:
        for step in range(1, 5):
            train(run, step)
            watcher.touch()
            checkpoint = await anext(stream)
            delete(run, step)
            await stream.failed(checkpoint, "no")
            await noticed(watcher)
            assert len(run_status(stream).pinned) <= 2
        came = await rest(stream)
        lost = [step for step, _ in missed(stream)]

    assert [1, 2, 3, 4] == sorted(came + lost, key=str)
    assert came


# What cannot be pinned.


async def test_no_links_are_possible(run: Path, watcher: ManualWatcher) -> None:
    """
    The call says so, each time, as long as it is so; then all comes.
    """
    train(run, 1)
    async with follow(run, watcher) as stream:
        with no_links(errno.EPERM):
            for _ in range(2):
                with pytest.raises(PinUnsupported, match=r"cannot be pinned: .*hard links"):
                    await anext(stream)
            reason = run_status(stream).waiting_for
            assert reason.startswith("waiting to pin step_1: "), reason
        with anyio.fail_after(20):
            assert 1 == (await anext(stream)).step
