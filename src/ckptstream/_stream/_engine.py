"""What both streams have in common, the one for `async for` and the blocking one."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import islice

import anyio
import anyio.lowlevel

from .._model import Checkpoint, Status
from .._watchers import Alarm, Watcher, current_watcher
from ._agenda import Agenda
from ._run import Run
from ._words import logger, report, report_end, status_of
from .arguments import Options

_EXPIRED = "the timeout has expired"
_AHEAD = 2  # runs whose next checkpoint is verified at once, so that none waits for a slow one
_CONSIDERED = 64  # runs among which one that is ready is looked for


class Engine:
    """
    Follows runs, one call at a time. Nothing of it goes on between two calls of `next_or_expired`:
    no task, no thread at work, no open cancel scope.
    """

    def __init__(self, directories: Sequence[str], options: Options) -> None:
        self.options = options
        self._alarm = Alarm()
        self._agenda = Agenda[Run](self._alarm)
        self._runs = {d: Run(d, options, self._agenda) for d in directories}
        self._offers: dict[Run, None] = {}  # runs with checkpoints to deliver; the next one first
        self._unreached = dict.fromkeys(self._runs.values())  # runs before their until_step
        self._wanting: dict[Run, None] = {}  # runs that want a look
        self._in_flight: dict[Run, None] = {}
        self._unsealed: dict[Run, None] = {}  # runs before the end of their last look
        self._guard = anyio.ResourceGuard("waiting for a checkpoint in")
        self._watcher: Watcher | None = None
        self._epoch: float | None = None  # the event loop's time when time.monotonic() was 0
        self._call = 0  # counts the calls of next_or_expired
        self._deadline: float | None = None  # survives cancelled calls
        self._ending: str | None = None  # why a last look is to be taken
        self._looks_last = False
        self._ended: str | None = None

    async def next_or_expired(self) -> Checkpoint | None:
        """
        Wait for the next finished checkpoint.

        Returns:
            None when the wait has expired and `timeout_fn` is to be asked for an `answer`.

        Raises:
            StopAsyncIteration: When the stream has ended, now and ever after.
            NotADirectoryError: If the first look finds a file where a directory belongs.
            anyio.BusyResourceError: If another task is waiting here.
        """
        with self._guard:
            await anyio.lowlevel.checkpoint()
            self._bind()
            self._begin_call()
            remaining = self._remaining()
            if remaining is not None and remaining <= 0 and self.options.timeout_fn is None:
                # There is only the last look left, and no other before it.
                self._ending, remaining = _EXPIRED, None
            scope = anyio.CancelScope()
            try:
                with anyio.fail_after(remaining) as scope:
                    run = await self._find()
            except TimeoutError as error:
                # An OSError of the storage, or of somebody's own timeout, is none of ours.
                if not scope.cancelled_caught:
                    raise
                if error.__context__ is not None:  # since Python 3.12 a cycle with its own frames
                    error.__context__.__traceback__ = None
            else:
                return self._hand_out(run)
            if self.options.timeout_fn is not None:
                return None
            self._ending = _EXPIRED
            # Outside of the except block: what is raised here must not keep those frames alive.
            run = await self._find()
            # Nothing awaits after this line, nor above: a cancelled caller loses no checkpoint.
            return self._hand_out(run)

    def _begin_call(self) -> None:
        self._call += 1
        for run in self._in_flight:
            run.renew(self._call)

    # The wait.

    def _remaining(self) -> float | None:
        """Seconds until the timeout expires; None if nothing can expire."""
        timeout, now = self.options.timeout, anyio.current_time()
        if timeout is None or self._ending is not None or self._ended is not None:
            return None
        if self._deadline is None:
            begin = now
            if self.options.min_interval_secs:
                # The wait starts when a checkpoint could be delivered at all.
                begin = max(now, min(run.ledger.eligible for run in self._runs.values()))
            self._deadline = begin + timeout
        return self._deadline - now

    @contextmanager
    def asking(self) -> Generator[None]:
        """
        Around the call of `timeout_fn`, once for each expiry.

        If it raises, the wait starts anew; if it is cancelled there was no answer: ask again.
        """
        deadline, self._deadline = self._deadline, None
        with self._guard:
            try:
                yield
            except anyio.get_cancelled_exc_class():
                self._deadline = deadline
                raise

    def answer(self, ended: bool) -> None:
        """What `timeout_fn` said: True ends the stream after a last look, False waits anew."""
        self._deadline = None
        if ended:
            self._ending = "timeout_fn said that the training has ended"

    async def _find(self) -> Run:
        """Wait until a run has a checkpoint that was verified since the caller asked."""
        while True:
            self._alarm.reset()
            if self._ended is not None:
                raise StopAsyncIteration(self._ended)
            assert self._watcher is not None
            self._watcher.read()
            self._watcher.review()
            now = anyio.current_time()
            self._begin_last_look(now)
            self._attend(now)
            if self._ended is not None:
                continue  # A handler of a log record has closed the stream.
            run = self._choose(now)
            if run is not None:
                return run
            if self._is_over():
                self.end(self._ending or "every run has reached until_step")
                continue
            self._start_looks(now)
            if not self._alarm.rung:
                # One run that hangs must not keep the others from being told.
                brief = bool(self._in_flight) and len(self._runs) == 1
                with anyio.CancelScope(deadline=self._agenda.next):
                    await self._watcher.wait(self._alarm, brief=brief)

    def _attend(self, now: float) -> None:
        """To each run that has something to do: take its look's result, see what it wants."""
        for run in self._agenda.take(now):
            try:
                if run.merge(now):
                    self._in_flight.pop(run, None)
            except BaseException:
                self._in_flight.pop(run, None)
                self._agenda.touch(run)  # The next call tries again.
                raise
            report(run)
            self._sort(run)
            if run.wants_look(now):
                self._wanting[run] = None
            else:
                self._agenda.schedule(run, now)

    def _sort(self, run: Run) -> None:
        """Enter the run where it belongs."""
        if run.ledger.candidate() is not None:
            self._offers.setdefault(run)
        else:
            self._offers.pop(run, None)
            if run.ledger.reached and not run.ledger.holding:
                self._unreached.pop(run, None)
        if run.sealed:
            self._unsealed.pop(run, None)

    def _choose(self, now: float) -> Run | None:
        """A run whose next checkpoint is good to go. Have the first few verified, if none is."""
        if self._unsealed:
            return None
        ahead = _AHEAD
        for run in islice(self._offers, _CONSIDERED):
            if run.ready(now, self._call):
                return run
            if ahead and run.hangs is None and run.wants_to_verify(now, self._call):
                ahead -= 1
                self._wanting[run] = None
        return None

    def _start_looks(self, now: float) -> None:
        for run in self._wanting:
            if not run.looking:
                self._in_flight[run] = None
                run.start_look(now, self._call)
                self._agenda.schedule(run, now)
        self._wanting.clear()

    def _hand_out(self, run: Run) -> Checkpoint:
        queued = run.ledger.candidate()
        assert queued is not None
        run.ledger.deliver(queued, anyio.current_time())
        # To the end of the line: a backlog must not starve a run with a single new checkpoint.
        self._offers.pop(run, None)
        self._sort(run)
        self._agenda.touch(run)
        self._deadline = None
        return queued.checkpoint(run.directory)

    # The event loop.

    def _bind(self) -> None:
        """Live in the event loop that runs now: a stream may wander between loops when idle."""
        given = self.options.watcher
        watcher = current_watcher() if isinstance(given, str) else given
        if watcher is self._watcher or self._ended is not None:
            return
        self._watcher = watcher
        # Each of trio's loops has a clock of its own, which begins anywhere.
        epoch = anyio.current_time() - time.monotonic()
        shift, self._epoch = 0.0 if self._epoch is None else epoch - self._epoch, epoch
        if self._deadline is not None:
            self._deadline += shift
        for run in self._runs.values():
            run.bind(watcher, shift)

    def release(self) -> None:
        """Leave the event loop, whose watches and threads are then no longer needed."""
        self._watcher = None
        for run in self._runs.values():
            run.unbind()

    def wake(self) -> None:
        """Look now, or at the next call."""
        for run in self._runs.values():
            run.all_changed()

    # The end.

    def _begin_last_look(self, now: float) -> None:
        if self._ending is None or self._looks_last:
            return
        self._looks_last = True
        for run in self._runs.values():
            run.look_last(now)
            self._unsealed[run] = None

    def _is_over(self) -> bool:
        if self._ending is not None:
            return not self._unsealed and all(run.exhausted for run in self._offers)
        return not self._unreached

    def end(self, reason: str) -> None:
        """End for good. Idempotent; a task that waits gets `StopAsyncIteration`."""
        if self._ended is not None:
            return
        self._ended = reason
        for run in self._runs.values():
            if self._ending is not None or not self._unreached:
                run.abandon()
            run.unbind()
            report_end(run)
        self._watcher = None  # A closed stream that is kept must not keep a descriptor open.
        logger.info("%s: the stream has ended: %s", ", ".join(self._runs), reason)
        self._alarm.ring()

    def status(self) -> Status:
        """What the stream knows of each run, at this moment. Does not look."""
        return Status(tuple(status_of(run) for run in self._runs.values()), self._ended)

    def __str__(self) -> str:
        runs = ", ".join(map(repr, self._runs))
        return f"{runs} (ended: {self._ended})" if self._ended else runs
