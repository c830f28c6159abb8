"""Async code for blocking callers: an event loop for one call, which Ctrl-C ends at any moment."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import anyio
from anyio import RunFinishedError
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import current_token

T = TypeVar("T")

_MOMENT = 0.05  # seconds after which Ctrl-C is noticed at the latest


class Home:
    """
    Where something async lives while blocking code waits for it: another thread's event loop.

    `anyio.from_thread.start_blocking_portal` hangs if Ctrl-C comes while it starts, and futures
    break if it comes while they are locked. So the waiting thread keeps to what is written in C.
    """

    def __init__(self) -> None:
        # Guards the other two, and what lives here while no portal is open. Reentrant: a signal
        # handler may interrupt its holder.
        self.lock = threading.RLock()
        self.portal: BlockingPortal | None = None
        self.thread: int | None = None
        self._turn = threading.Lock()  # whose event loop it is

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await what *function* returns; the loop and its thread are gone when this returns."""
        with self._turn:
            return self._run(function)

    def ask(self, there: Callable[[], Awaitable[T]], alone: Callable[[], Awaitable[T]]) -> T:
        """
        Await something here, from any thread but the event loop's.

        Args:
            there: What to await in the event loop that another thread waits for.
            alone: What to await in one for this call, where there is none.
        """
        while True:
            with self.lock:
                portal = self.portal
            if portal is not None:
                try:
                    return portal.call(there)
                except (RuntimeError, CancelledError):
                    if self.portal is portal:
                        raise
                    # It closed meanwhile.
            elif self._turn.acquire(timeout=_MOMENT):
                try:
                    return self._run(alone)
                finally:
                    self._turn.release()

    def _run(self, function: Callable[[], Awaitable[T]]) -> T:
        life = _Life(self, function)
        thread = threading.Thread(target=life.live, name="ckptstream-sync", daemon=True)
        try:
            thread.start()
            life.wait()
        finally:
            try:
                life.end()
            except KeyboardInterrupt:
                life.end()  # It may have come before the loop was told.
                raise
            finally:
                if thread.is_alive():
                    thread.join()
        return life.outcome()

    def tell(self, call: Callable[[], T]) -> T:
        """Make a call here, from any thread: in the event loop if there is one."""
        if threading.get_ident() == self.thread:  # A handler of a log record, for example.
            return call()
        with self.lock:
            return call() if self.portal is None else self.portal.call(call)


class _Life(Generic[T]):
    """One call of `Home.run`."""

    def __init__(self, home: Home, function: Callable[[], Awaitable[T]]) -> None:
        self._home = home
        self._function = function
        self._done: SimpleQueue[None] = SimpleQueue()
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._ended = False
        self._wake: Callable[[], None] | None = None

    def wait(self) -> None:
        """
        Wait until the call has returned or raised.

        A signal that comes just before a thread blocks sets Python's flag but does not wake the
        thread any more: it blocks for moments only.
        """
        while True:
            with suppress(Empty):
                return self._done.get(timeout=_MOMENT)

    def end(self) -> None:
        """Close the portal, cancel the call if it still runs, and let the thread end."""
        with self._home.lock:  # Whoever holds it to tell something is answered first.
            self._ended = True
            self._home.portal = self._home.thread = None
        if self._wake is not None:
            with suppress(RunFinishedError):
                self._wake()

    def outcome(self) -> T:
        """What the call returned, or raise what it raised."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
            return self._results.pop()
        finally:
            del error  # It refers to this frame.

    def live(self) -> None:
        """All that the thread does."""
        try:
            anyio.run(self._stay)
        except BaseException as error:
            self._error = self._error or error
        finally:
            self._done.put(None)

    async def _stay(self) -> None:
        async with BlockingPortal() as portal, anyio.create_task_group() as tasks:
            token, ended = current_token(), anyio.Event()
            soon = token.backend_class.run_sync_soon
            self._wake = partial(soon, ended.set, (), token.native_token)
            with self._home.lock:
                if self._ended:
                    return  # Ctrl-C came first, and nobody would wake this.
                self._home.portal, self._home.thread = portal, threading.get_ident()
            tasks.start_soon(self._call)
            await ended.wait()
            tasks.cancel_scope.cancel()

    async def _call(self) -> None:
        try:
            self._results.append(await self._function())
        except anyio.get_cancelled_exc_class() as error:
            # Not raised any further: this is the task's end, and its frames would keep alive all
            # that was used here, threads and descriptors too, until they are collected.
            self._error = type(error)(*error.args)
        except BaseException as error:
            self._error = error
        finally:
            self._done.put(None)
