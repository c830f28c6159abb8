"""
The order where a pointer proves the newest at once, and what was saved before it has to settle.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest
from steering import rest, run_status, steps, virtual

from ckptstream import CheckpointStream, follow
from ckptstream.layouts import Evidence
from ckptstream.testing import ManualWatcher, save

pytestmark = [pytest.mark.anyio, virtual]

POINTED = ["megatron", "verl", "deepspeed", "tensorflow"]
NAME = "iter_{:07}"  # of Megatron's


def step(run: Path, number: int) -> Path:
    return run / NAME.format(number)


class Marked:
    """
    Finished with a marker, else once its weights and its log have settled.
    """

    name = "marked"

    def match(self, name: str) -> tuple[str, int | None] | None:
        return (name, int(name)) if name.isdecimal() else None

    def missing(self, name: str, evidence: Evidence) -> str | None:
        if evidence.stat(f"{name}/DONE") is not None:
            return None
        settled = [evidence.settled(f"{name}/{file}") for file in ("weights", "log")]
        return None if all(settled) else "it has to settle"

    def generation(self, name: str, evidence: Evidence) -> str | None:
        return evidence.fingerprint(f"{name}/weights")


def weights(run: Path, number: int) -> Path:
    """
    Those of a checkpoint of that layout, whose directory is made.
    """
    (run / str(number)).mkdir(exist_ok=True)
    return run / str(number) / "weights"


async def marked(run: Path, watcher: ManualWatcher) -> CheckpointStream:
    """
    A stream that has seen three at once, of which the last one has its marker.
    """
    stream = follow(run, layout=Marked(), watcher=watcher)
    assert [] == await steps(stream, watcher)
    await anyio.sleep(60)
    for number in (2, 3, 4):
        weights(run, number).touch()
    (run / "4" / "DONE").touch()
    watcher.touch()
    assert [] == await steps(stream, watcher)
    return stream


async def begun(
    run: Path, watcher: ManualWatcher, framework: str = "megatron", **options: Any
) -> CheckpointStream:
    """
    A stream that has delivered the first one; its evaluation takes so long that three more come.
    """
    save(run, 1, framework)
    stream = follow(run, watcher=watcher, **options)
    assert 1 == (await anext(stream)).step
    await anyio.sleep(60)
    for number in (2, 3, 4):
        save(run, number, framework)
    watcher.touch()
    return stream


@pytest.mark.parametrize("layout", POINTED)
@pytest.mark.parametrize("named", [True, False])
async def test_what_came_before_the_one_that_is_named_comes_before_it(
    run: Path, layout: str, named: bool, watcher: ManualWatcher
) -> None:
    """
    Those that only settle are not overtaken.
    """
    stream = await begun(run, watcher, layout, layout=layout if named else "auto")

    assert [2, 3, 4] == [(await anext(stream)).step for _ in range(3)]


@pytest.mark.parametrize("layout", POINTED)
async def test_a_step_that_is_reached_does_not_end_it_before_them(
    run: Path, layout: str, watcher: ManualWatcher
) -> None:
    """
    The last step comes last.
    """
    stream = await begun(run, watcher, layout, until_step=4)

    assert [2, 3, 4] == await rest(stream)


async def test_who_waits_gets_each_at_once(run: Path, watcher: ManualWatcher) -> None:
    """
    Nothing is held back where nothing was saved before it.
    """
    save(run, 1, "megatron")
    stream = follow(run, watcher=watcher)
    await anext(stream)

    for number in (2, 3):
        save(run, number, "megatron")
        watcher.touch()
        assert [number] == await steps(stream, watcher)


async def test_the_newest_is_not_held_back(run: Path, watcher: ManualWatcher) -> None:
    """
    Who wants the newest does not want those before it.
    """
    stream = await begun(run, watcher, latest_only=True)

    assert [4] == await steps(stream, watcher)


async def test_status_says_what_holds_it_back(run: Path, watcher: ManualWatcher) -> None:
    """
    The first of those before it, and what that lacks.
    """
    stream = await begun(run, watcher)
    assert [] == await steps(stream, watcher)
    status = run_status(stream)

    reason = f"waiting for {NAME.format(2)}, which comes before {NAME.format(4)}: "
    assert reason + status.unfinished[NAME.format(2)] == status.waiting_for
    assert 1 == status.queued


async def test_what_is_written_to_holds_back_nothing(run: Path, watcher: ManualWatcher) -> None:
    """
    However long that goes on.
    """
    stream = await marked(run, watcher)
    begin = anyio.current_time()

    async def write() -> None:
        while True:
            for number in (2, 3):
                weights(run, number).touch()
            watcher.touch()
            await anyio.sleep(0.3)

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        assert 4 == (await anext(stream)).step
        group.cancel_scope.cancel()

    assert anyio.current_time() - begin < 2


async def test_what_is_deleted_holds_back_nothing(run: Path, watcher: ManualWatcher) -> None:
    """
    The next one comes as soon as that is known.
    """
    stream = await begun(run, watcher)
    assert [] == await steps(stream, watcher)
    for number in (2, 3):
        shutil.rmtree(step(run, number))
        watcher.event(NAME.format(number))

    assert [4] == await steps(stream, watcher)


async def test_what_is_being_deleted_holds_back_nothing(run: Path, watcher: ManualWatcher) -> None:
    """
    It was delivered, and its files go one by one, the marker first.
    """
    weights(run, 1).touch()
    (run / "1" / "DONE").touch()
    stream = follow(run, layout=Marked(), watcher=watcher)
    assert [1] == await steps(stream, watcher)
    await anyio.sleep(60)
    (run / "1" / "DONE").unlink()
    weights(run, 2).touch()
    (run / "2" / "DONE").touch()
    for name in ("1", "2"):
        watcher.event(name)

    assert [2] == await steps(stream, watcher)


async def test_each_comes_in_its_turn_whichever_settles_first(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    The third has settled before the second, to which somebody wrote meanwhile.
    """
    stream = await marked(run, watcher)
    await anyio.sleep(0.5)
    weights(run, 2).touch()
    watcher.event("2")

    assert [2, 3, 4] == [(await anext(stream)).step for _ in range(3)]


async def test_what_settles_after_the_last_look_holds_back_nothing(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    What was found by then is delivered before the stream ends.
    """
    weights(run, 3).touch()
    stream = follow(run, layout=Marked(), watcher=watcher, timeout=0.5)

    async def write() -> None:
        await anyio.sleep(0.9)
        weights(run, 2).touch()
        for number in (4, 5):
            weights(run, number).touch()
            (run / str(number) / "DONE").touch()
        watcher.touch()

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        found = [(await anext(stream)).step for _ in range(2)]
    watcher.touch()

    assert [3, 4, 5] == found + await rest(stream)


async def test_of_a_run_that_has_gone_nothing_is_awaited(run: Path, watcher: ManualWatcher) -> None:
    """
    What is pinned comes all the same.
    """
    save(run, 1, "megatron")
    async with follow(run, watcher=watcher, pin=True) as stream:
        assert 1 == (await anext(stream)).step
        for number in (2, 4):
            save(run, number, "megatron")
        watcher.touch()
        with anyio.move_on_after(0.5):
            await anext(stream)
        shutil.rmtree(run)
        watcher.touch()

        assert [4] == await steps(stream, watcher)


async def test_what_never_settles_does_not_hold_back_the_first_look(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Not though a part of it has been as it is since then.
    """
    for number in (1, 2):
        weights(run, number).touch()
        (run / str(number) / "log").touch()
    stream = follow(run, layout=Marked(), watcher=watcher)

    async def write() -> None:
        while True:
            (run / "1" / "log").touch()
            watcher.touch()
            await anyio.sleep(0.3)

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        with anyio.fail_after(30):
            assert 2 == (await anext(stream)).step
        group.cancel_scope.cancel()


@contextmanager
def counted() -> Iterator[list[str]]:
    """
    The lines of the bookkeeping that this thread, the event loop's, goes through.
    """
    lines = list[str]()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        path = frame.f_code.co_filename
        if not path.endswith(("_queue.py", "_settling.py")):
            return None
        lines.extend([path] if event == "line" else ())
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("first", [True, False])
async def test_twice_as_many_cost_twice_as_much(
    tmp_path: Path, first: bool, watcher: ManualWatcher
) -> None:
    """
    Half of them have to settle; the event loop must not stand still where they are thousands.
    """
    costs = list[int]()
    for many in (100, 200):
        run = tmp_path / str(many)
        run.mkdir()
        stream = follow(run, layout=Marked(), watcher=watcher, timeout=2)
        if not first:
            weights(run, 0).touch()
            assert 0 == (await anext(stream)).step
        for number in range(1, many + 1):
            weights(run, number).touch()
            if number % 2:
                (run / str(number) / "DONE").touch()
        watcher.touch()
        with counted() as lines:
            assert list(range(1, many + 1)) == await rest(stream)
        costs.append(len(lines))

    assert costs[1] < 2.5 * costs[0]


async def test_those_that_are_held_are_waited_for_when_the_step_is_reached(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    After a rollback, which has come before the last step was asked for.
    """
    save(run, 1, "megatron")
    stream = follow(run, watcher=watcher, until_step=10, min_interval_secs=60)
    assert 1 == (await anext(stream)).step
    begin = anyio.current_time()
    await anyio.sleep(10)
    save(run, 10, "megatron")
    watcher.touch()
    assert [] == await steps(stream, watcher)
    await anyio.sleep_until(begin + 59.5)
    for number in (8, 9):
        save(run, number, "megatron")
    watcher.touch()

    assert [10, 8, 9] == await rest(stream)


class Late(Marked):
    """
    Says the same as long as there is no marker, settled or not.
    """

    def missing(self, name: str, evidence: Evidence) -> str | None:
        settled = evidence.settled(f"{name}/weights")
        done = evidence.stat(f"{name}/DONE") is not None
        return None if done and (settled or name != "2") else "it is not done"


async def test_what_has_settled_and_is_not_finished_holds_back_nothing(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Though the look which learns of that finds nothing new.
    """
    weights(run, 1).touch()
    (run / "1" / "DONE").touch()
    stream = follow(run, layout=Late(), watcher=watcher)
    assert [1] == await steps(stream, watcher)
    await anyio.sleep(60)
    weights(run, 2).touch()
    watcher.touch()
    assert [] == await steps(stream, watcher)
    watcher.event("1")
    assert [] == await steps(stream, watcher)
    with anyio.move_on_after(10):
        await anext(stream)
    weights(run, 3).touch()
    (run / "3" / "DONE").touch()
    watcher.event("3")

    assert [3] == await steps(stream, watcher)


async def test_what_comes_while_the_first_look_holds_waits_in_its_turn(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    It may be more than what that look has found.
    """
    for number in (1, 2):
        save(run, number, "megatron")
    stream = follow(run, watcher=watcher)
    assert [] == await steps(stream, watcher)
    await anyio.sleep(0.5)
    for number in (3, 4):
        save(run, number, "megatron")
    watcher.touch()
    assert [] == await steps(stream, watcher)

    assert [1, 2, 3, 4] == [(await anext(stream)).step for _ in range(4)]


async def test_what_is_saved_again_does_not_overtake(run: Path, watcher: ManualWatcher) -> None:
    """
    Once it has come before what waited for it, its turn is the last one.
    """
    stream = await begun(run, watcher)
    assert 2 == (await anext(stream)).step
    await anyio.sleep(60)
    shutil.rmtree(step(run, 2))
    save(run, 2, "megatron")
    watcher.touch()

    assert [4, 2] == await steps(stream, watcher)
