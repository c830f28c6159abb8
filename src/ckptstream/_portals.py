"""Async code for blocking callers: an event loop for one call, which Ctrl-C ends at any moment."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import TypeVar

import anyio
from anyio import RunFinishedError
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import current_token

T = TypeVar("T")

_MOMENT = 0.05  # seconds after which Ctrl-C is noticed at the latest


def wait_for(awaitable: Awaitable[T]) -> T:
    """Await something in an event loop of its own."""

    async def complete() -> T:
        return await awaitable

    with portal() as opened:
        return result(opened.start_task_soon(complete))


def result(future: Future[T]) -> T:
    """
    Wait for a future's result.

    A signal that comes just before the thread blocks sets Python's flag but does not wake the
    thread any more: it blocks for moments only. And on a bare lock: two signals in a row leave the
    condition inside a future broken.
    """
    pending = threading.Lock()
    pending.acquire()
    future.add_done_callback(lambda _: pending.release())
    while not pending.acquire(timeout=_MOMENT):
        pass
    return future.result()


@contextmanager
def portal() -> Generator[BlockingPortal]:
    """
    A portal into an event loop of its own, in another thread; both are gone afterwards.

    `anyio.from_thread.start_blocking_portal` hangs if Ctrl-C comes while it starts.
    """
    started: Future[tuple[BlockingPortal, Callable[[], None]]] = Future()
    thread = threading.Thread(target=_live, args=(started,), name="ckptstream-sync", daemon=True)
    try:
        thread.start()
        yield started.result()[0]
    finally:
        try:
            _stop(started)
        except KeyboardInterrupt:
            _stop(started)  # It may have come before the loop was told.
            raise
        finally:
            if thread.is_alive():
                thread.join()


def _live(started: Future[tuple[BlockingPortal, Callable[[], None]]]) -> None:
    async def stay() -> None:
        async with BlockingPortal() as opened:
            token, leave = current_token(), anyio.Event()
            call_soon = token.backend_class.run_sync_soon
            try:
                started.set_result((opened, lambda: call_soon(leave.set, (), token.native_token)))
            except InvalidStateError:
                return  # It was cancelled: Ctrl-C came first, and nobody would stop this.
            await leave.wait()
            await opened.stop(cancel_remaining=True)

    try:
        anyio.run(stay)
    except BaseException as error:
        if not started.done():
            started.set_exception(error)


def _stop(started: Future[tuple[BlockingPortal, Callable[[], None]]]) -> None:
    if not started.cancel() and started.exception() is None:
        with suppress(RunFinishedError):
            started.result()[1]()
