"""
A call in a thread that one task waits for.
"""

from __future__ import annotations

import gc
import threading

import anyio
import pytest
from observing import SECONDS, look_threads, until

from ckptstream._threads import Call

pytestmark = pytest.mark.anyio


def lane() -> str:
    return "here"


async def test_it_gives_what_the_function_returns() -> None:
    """
    From another thread.
    """
    assert threading.get_ident() != await Call(lambda alive: threading.get_ident(), lane).wait()


async def test_it_raises_what_the_function_raises() -> None:
    """
    As it is.
    """
    error = ZeroDivisionError()

    def fail(alive: object) -> None:
        raise error

    with pytest.raises(ZeroDivisionError) as raised:
        await Call(fail, lane).wait()
    assert error is raised.value


async def test_a_cancelled_waiter_leaves_at_once() -> None:
    """
    The call is made to its end.
    """
    released, ended = threading.Event(), threading.Event()

    def work(alive: object) -> None:
        released.wait(SECONDS)
        ended.set()

    with anyio.move_on_after(0.01) as scope:
        await Call(work, lane).wait()
    assert scope.cancelled_caught
    assert not ended.is_set()
    released.set()
    await until(ended.is_set)


async def test_one_that_nobody_waits_for_is_made_all_the_same() -> None:
    """
    Though it has not begun when the last one goes who had anything to do with it.
    """
    released, ended = threading.Event(), threading.Event()
    busy = list[int]()

    def work(alive: object) -> None:
        busy.append(1)
        released.wait(SECONDS)

    async def begin() -> None:
        for _ in range(2):
            Call(work, lane)
        await until(lambda: len(busy) == 2)
        Call(lambda alive: ended.set(), lane)

    await begin()
    gc.collect()
    assert not ended.is_set()
    released.set()
    await until(ended.is_set)


async def test_an_error_that_is_kept_keeps_no_threads() -> None:
    """
    They end with the last who needs them, not with the last who knows of them.
    """

    def fail(alive: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        await Call(fail, lane).wait()
    gc.collect()
    await until(lambda: not look_threads())
    assert raised.value.__traceback__ is not None
