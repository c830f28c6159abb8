"""
The package's own small pool of daemon threads, one pool for each event loop.

anyio's worker threads will not do for storage that can hang: on asyncio an abandoned one is no
longer counted by its limiter and delays the exit of the process, on trio it keeps its token and
starves healthy calls.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ._job import Job
from ._mailbox import Mailbox, current_mailbox
from ._per_loop import PerLoop

T = TypeVar("T")

HEALTHY_THREADS = 2
REMOTE_THREADS = 8  # healthy ones of the pool for servers, which answer in 50 ms or 500
HUNG_THREADS = 4
IDLE_SECONDS = 5.0
_SLOW = 0.01  # seconds after which a job waits for its storage, rather than for the interpreter
_TELL_AFTER = 0.001  # seconds


class _Workers:
    """What the threads share. It refers neither to the pool nor to an event loop."""

    def __init__(self, healthy: int) -> None:
        self._healthy = healthy
        self.jobs: deque[Job[object]] = deque()
        # What wakes an idle thread. One that comes from a job finds the next by itself: waking a
        # thread costs more than most looks.
        self.calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.idle = 0  # threads that wait for a call which was not made yet
        # Reentrant: the garbage collector may close a pool anywhere, in its own threads too.
        self.lock = threading.RLock()
        self.threads = 0
        self.pending = 0  # jobs submitted and not done, without those that hang or are held back
        self.running: set[Job[object]] = set()
        self.hung: set[Job[object]] = set()
        self.held: list[Job[object]] = []
        self.closed = False
        self.untold: Mailbox | None = None  # holds news of which the event loop was not told
        self.told = -math.inf  # when the event loop was told last, by time.monotonic

    def keeps_waiting(self) -> bool:
        """Whether what has not begun, and is not held back, waits for threads that hang."""
        return len(self.hung) >= HUNG_THREADS and self.threads <= len(self.hung)

    def hire(self) -> None:
        """Start the threads that are needed and allowed. The lock is held."""
        for _ in range(self._healthy):
            healthy = self.threads - len(self.hung)
            room = self.threads < self._healthy + HUNG_THREADS
            if self.pending > healthy < self._healthy and room:
                self.threads += 1
                threading.Thread(target=self._work, name="ckptstream-look", daemon=True).start()

    def add(self, job: Job[object]) -> None:
        """Have a thread run *job*. The lock is held."""
        self.jobs.append(job)
        self.call(1)

    def call(self, number: int) -> None:
        """Wake so many of the threads that are idle. The lock is held."""
        for _ in range(min(number, self.idle)):
            self.idle -= 1
            self.calls.put(None)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if self._begin(job):
                self._tell(job.run())
                self._end(job)
            del job  # An idle thread must not keep a look, and through it a stream, alive.

    def _tell(self, mailbox: Mailbox | None) -> None:
        # While more is to be done anyway the event loop is told every millisecond: a profile of a
        # thousand runs that are polled showed it and the threads taking the interpreter from each
        # other after each look, for three times as long as the looks took.
        now = time.monotonic()
        if mailbox is not None and (not self.jobs or now - self.told >= _TELL_AFTER):
            self.told, self.untold = now, None
            mailbox.wake()
        else:
            self.untold = mailbox

    def _next(self) -> Job[object] | None:
        """Wait for a job; None if the thread is to end."""
        while True:
            with self.lock:
                surplus = self.threads - len(self.hung) > self._healthy
                if self.closed or surplus:
                    self.threads -= 1
                    return None
                stands_by = bool(self.jobs) and self._moves()
                if self.jobs and not stands_by:
                    return self.jobs.popleft()
                self.idle += not stands_by
                untold, self.untold = self.untold, None
            if untold is not None:  # The other thread has taken the last job, which may be slow.
                untold.wake()
            if stands_by:
                time.sleep(_SLOW)
                continue
            try:
                self.calls.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                if self._leave():
                    return None

    def _moves(self) -> bool:
        """
        Whether another thread has just begun a job, and soon comes for the next. The lock is held.

        Two threads that run Python take the interpreter from each other after each system call: a
        profile of the first looks at a thousand runs showed them taking twice as long as one. A
        second thread only helps where the storage is slow.
        """
        now = time.monotonic()
        return any(job.began_at > now - _SLOW for job in self.running)

    def _leave(self) -> bool:
        """Whether nobody has called a thread that was idle for long enough."""
        with self.lock:
            with contextlib.suppress(queue.Empty):
                self.calls.get(block=False)
                return False
            self.idle -= 1
            self.threads -= 1
            return True

    def _begin(self, job: Job[object]) -> bool:
        while True:
            with self.lock:
                if self.closed:
                    return False
                # Below this, even if all that runs hangs in the end, a healthy thread is left.
                crowded = len(self.hung) + self._healthy > HUNG_THREADS
                unknown = [j for j in (job, *self.running) if crowded and j.lane is None]
                if not unknown:
                    if crowded and self._is_blocked(job):
                        self.held.append(job)
                        job.held = True
                        self.pending -= 1
                        return False
                    self.running.add(job)
                    return True
            # The lanes are asked without the lock, since the event loop takes it too.
            for each in unknown:
                each.find_lane()

    def _is_blocked(self, job: Job[object]) -> bool:
        """Whether enough calls hang, or soon will, where *job* goes. The lock is held."""
        lanes = {hung.lane for hung in self.hung}
        there = sum(running.lane in lanes for running in self.running)
        return job.lane in lanes and there >= HUNG_THREADS

    def _end(self, job: Job[object]) -> None:
        with self.lock:
            self.running.discard(job)
            hung = job in self.hung
            self.hung.discard(job)
            if not hung:
                self.pending -= 1
            if self.held and (hung or job.lane in {other.lane for other in self.hung}):
                self.pending += len(self.held)
                for held in self.held:
                    held.held = False
                    self.add(held)
                self.held.clear()
            self.hire()

    def close(self) -> None:
        """Let every thread end: the idle ones now, the busy ones after their job."""
        with self.lock:
            self.closed = True
            self.jobs.clear()
            self.held.clear()
            self.call(self.idle)


class Pool:
    """
    Worker threads of one event loop; `current_pool` and `current_remote_pool` return them.

    Args:
        healthy: How many threads there are at most, beside those that hang.
    """

    def __init__(self, healthy: int = HEALTHY_THREADS) -> None:
        self._mailbox = current_mailbox()  # kept while there is a pool
        self._workers = _Workers(healthy)
        weakref.finalize(self, self._workers.close).atexit = False

    def submit(self, job: Job[T], done: Callable[[], None]) -> None:
        """Have a thread run *job*, and then this event loop call *done*."""
        self.queue(job, done)
        self.begin()

    def queue(self, job: Job[T], done: Callable[[], None], *, first: bool = False) -> None:
        """
        As `submit`, but nobody is woken before `begin`: for many jobs that is much cheaper.

        *first*: before those that have not begun yet.
        """
        job.notify(done, self._mailbox)
        workers = self._workers
        job.kept_waiting = workers.keeps_waiting
        with workers.lock:
            workers.pending += 1
            add = workers.jobs.appendleft if first else workers.jobs.append
            add(job)  # type: ignore[arg-type]  # threads ignore the result

    def begin(self) -> None:
        """Have the threads begin with what was queued."""
        workers = self._workers
        with workers.lock:
            workers.hire()
            workers.call(len(workers.jobs))

    def review(self) -> None:
        """Replace the threads that hang. Whoever waits for a job calls this every second."""
        workers = self._workers
        with workers.lock:
            for job in workers.running - workers.hung:
                if job.silent >= job.patience:
                    workers.hung.add(job)
                    workers.pending -= 1
            workers.hire()
        self._mailbox.deliver()  # A thread may hang that has something to tell.

    @property
    def hung(self) -> int:
        """How many threads hang."""
        return len(self._workers.hung)

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return self._workers.threads

    def close(self) -> None:
        """End the threads now rather than when the last stream goes. Nothing may be submitted."""
        self._workers.close()


current_pool = PerLoop("ckptstream_pool", Pool)
# Of its own: a server that is slow or down must keep nobody from looking at a directory.
current_remote_pool = PerLoop("ckptstream_remote_pool", partial(Pool, REMOTE_THREADS))
