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
from typing import Generic, TypeVar

from anyio import RunFinishedError
from anyio.lowlevel import RunVar, current_token

T = TypeVar("T")

HUNG_AFTER = 1.0  # seconds without a sign of life
HEALTHY_THREADS = 2
HUNG_THREADS = 4
IDLE_SECONDS = 5.0


class Mailbox:
    """
    What threads tell one event loop; `current_mailbox` returns it.

    A thousand looks that end at once wake the loop a few times, not a thousand: waking it costs
    more than most looks.
    """

    def __init__(self) -> None:
        self._token = current_token()
        self._calls: deque[Callable[[], None]] = deque()
        self._awake = False  # the loop has been told to come by

    def post(self, callback: Callable[[], None]) -> None:
        """Have the event loop call *callback*; from any thread. Never waits for the loop."""
        self._calls.append(callback)
        if self._awake:
            return
        self._awake = True
        token = self._token
        # One that has ended, or ends right now, would never answer: whoever asks in another loop
        # finds the result all the same.
        with contextlib.suppress(RunFinishedError):
            token.backend_class.run_sync_soon(self._deliver, (), token.native_token)

    def _deliver(self) -> None:
        self._awake = False  # Before the calls are taken: whatever comes later asks again.
        while self._calls:
            self._calls.popleft()()


class Job(Generic[T]):
    """
    One call in a worker thread; keeps its result until somebody takes it.

    The function is given a callable to call now and then as a sign of life: a large directory on
    slow storage is slow, but it does not hang.

    Args:
        function: What the thread calls.
        lane: Names what the call depends on, such as a mount point. Asked in a worker thread, and
            only when so many calls hang that those on the same lane must be held back.
    """

    def __init__(
        self, function: Callable[[Callable[[], None]], T], lane: Callable[[], str]
    ) -> None:
        self._function = function
        self._result: T | None = None
        self._error: BaseException | None = None
        self._mailbox: Mailbox | None = None
        self._notify: Callable[[], None] | None = None
        self._ask_lane = lane
        self.lane: str | None = None  # None: not asked yet
        self.done = False
        self.started = False
        self.began_at = math.inf  # by time.monotonic
        self.alive_at = time.monotonic()
        self.kept_waiting: Callable[[], bool] = lambda: False

    def find_lane(self) -> None:
        """Ask for the lane; in a thread."""
        try:
            self.lane = self._ask_lane()
        except OSError:
            self.lane = ""  # A relative path, and the working directory is gone.

    def alive(self) -> None:
        """Called by the function in its thread: it goes on."""
        self.alive_at = time.monotonic()

    @property
    def silent(self) -> float:
        """Seconds since the last sign of life, counted from the submission if there was none."""
        return time.monotonic() - self.alive_at

    @property
    def hangs(self) -> float | None:
        """
        Seconds since the last sign of life, if there should have been one.

        A job that waits for its turn does not hang; one that waits for threads that hang does.
        """
        silent = self.silent
        if self.done or silent < HUNG_AFTER or not (self.started or self.kept_waiting()):
            return None
        return silent

    def notify(self, callback: Callable[[], None]) -> None:
        """Call *callback* in the event loop that runs now once the job is done; replaces others."""
        self._notify, self._mailbox = callback, current_mailbox()
        if self.done:
            # The thread may have finished between the two lines above, told the old loop or none.
            callback()

    def run(self) -> None:
        """Make the call, in a thread, and tell the event loop."""
        self.alive()
        self.began_at, self.started = self.alive_at, True
        try:
            self._result = self._function(self.alive)
        except BaseException as error:  # It is raised in the event loop, by take().
            self._error = error
        del self._function  # The result may be kept for long, but not what the call referred to.
        self.done = True
        self._tell()

    def _tell(self) -> None:
        mailbox, callback = self._mailbox, self._notify
        if mailbox is not None and callback is not None:
            mailbox.post(callback)

    def take(self) -> T:
        """What the function returned, or raise what it raised. Only when done."""
        assert self.done
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # T may be Optional itself


class _Workers:
    """What the threads share. It refers neither to the pool nor to an event loop."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        # Reentrant: the garbage collector may close a pool anywhere, in its own threads too.
        self.lock = threading.RLock()
        self.threads = 0
        self.pending = 0  # jobs submitted and not done, without those that hang or are held back
        self.running: set[Job[object]] = set()
        self.hung: set[Job[object]] = set()
        self.held: list[Job[object]] = []
        self.closed = False

    def keeps_waiting(self) -> bool:
        """Whether what has not begun waits for threads that hang."""
        return len(self.hung) >= HUNG_THREADS and (
            bool(self.held) or self.threads <= len(self.hung)
        )

    def hire(self) -> None:
        """Start a thread if one is needed and allowed. The lock is held."""
        healthy = self.threads - len(self.hung)
        room = self.threads < HEALTHY_THREADS + HUNG_THREADS
        if self.pending > healthy < HEALTHY_THREADS and room:
            self.threads += 1
            threading.Thread(target=self._work, name="ckptstream-look", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                if self._leave(idle=True):
                    return
                continue
            if job is not None and self._begin(job):
                job.run()
                self._end(job)
                del job  # An idle thread must not keep a look, and through it a stream, alive.
            if self._leave(idle=False):
                return

    def _leave(self, idle: bool) -> bool:
        with self.lock:
            surplus = self.threads - len(self.hung) > HEALTHY_THREADS
            if self.closed or surplus or (idle and self.jobs.empty()):
                self.threads -= 1
                return True
            return False

    def _begin(self, job: Job[object]) -> bool:
        while True:
            with self.lock:
                if self.closed:
                    return False
                # Below this, even if all that runs hangs in the end, a healthy thread is left.
                crowded = len(self.hung) + HEALTHY_THREADS > HUNG_THREADS
                unknown = [j for j in (job, *self.running) if crowded and j.lane is None]
                if not unknown:
                    if crowded and self._is_blocked(job):
                        self.held.append(job)
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
                    self.jobs.put(held)
                self.held.clear()
            self.hire()

    def close(self) -> None:
        """Let every thread end: the idle ones now, the busy ones after their job."""
        with self.lock:
            self.closed = True
            for _ in range(self.threads):
                self.jobs.put(None)


class Pool:
    """The worker threads of one event loop; `current_pool` returns it."""

    def __init__(self) -> None:
        self._mailbox = current_mailbox()  # kept while there is a pool
        self._workers = _Workers()
        weakref.finalize(self, self._workers.close).atexit = False

    def submit(self, job: Job[T], done: Callable[[], None]) -> None:
        """Have a thread run *job*, and then this event loop call *done*."""
        job.notify(done)
        workers = self._workers
        job.kept_waiting = workers.keeps_waiting
        with workers.lock:
            workers.pending += 1
            workers.jobs.put(job)  # type: ignore[arg-type]  # threads do not look at the result
            workers.hire()

    def review(self) -> None:
        """Replace the threads that hang. Whoever waits for a job calls this every second."""
        workers = self._workers
        with workers.lock:
            for job in workers.running - workers.hung:
                if job.silent >= HUNG_AFTER:
                    workers.hung.add(job)
                    workers.pending -= 1
            workers.hire()

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


# Weak: a strong value would keep the pool, through it the loop's last callbacks, for ever.
_mailboxes: RunVar[weakref.ref[Mailbox]] = RunVar("ckptstream_mailbox")
_pools: RunVar[weakref.ref[Pool]] = RunVar("ckptstream_pool")


def current_mailbox() -> Mailbox:
    """What threads tell the event loop that runs now. It lives as long as somebody holds it."""
    reference = _mailboxes.get(None)
    mailbox = None if reference is None else reference()
    if mailbox is None:
        mailbox = Mailbox()
        _mailboxes.set(weakref.ref(mailbox))
    return mailbox


def current_pool() -> Pool:
    """The pool of the event loop that runs now. It lives as long as somebody holds it."""
    reference = _pools.get(None)
    pool = None if reference is None else reference()
    if pool is None:
        pool = Pool()
        _pools.set(weakref.ref(pool))
    return pool
