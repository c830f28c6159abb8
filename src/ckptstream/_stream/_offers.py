"""Which runs have something to deliver, and whose turn it is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from ._run import Run

_AHEAD = 2  # runs whose next checkpoint is verified at once, so that none waits for a slow one
_CONSIDERED = 64  # runs among which one that is ready is looked for


class Offers:
    """
    The runs of one stream take turns.

    Attributes:
        laden: Runs with checkpoints to deliver.
    """

    __slots__ = ("_ends", "_line", "_unreached", "laden")

    def __init__(self, runs: Iterable[Run], ends: bool) -> None:
        self.laden: dict[Run, None] = {}
        # Those of them that may deliver now; the next one first.
        self._line: OrderedDict[Run, None] = OrderedDict()
        # Runs before their until_step; without one nobody asks.
        self._ends = ends
        self._unreached = dict.fromkeys(runs if ends else ())

    def add(self, run: Run) -> None:
        """A run has joined."""
        if self._ends and not run.queue.reached:
            self._unreached[run] = None

    def drop(self, run: Run) -> None:
        """A run has left."""
        for runs in (self.laden, self._line, self._unreached):
            runs.pop(run, None)

    def sort(self, run: Run, now: float) -> None:
        """Enter a run where it belongs."""
        if run.queue.candidate() is None:
            self.laden.pop(run, None)
            self._line.pop(run, None)
            if run.queue.reached and not (run.queue.held or run.queue.retrying):
                self._unreached.pop(run, None)
            elif self._ends:
                self._unreached[run] = (
                    None  # It is held, or was delivered, has failed and comes again.
                )
        else:
            self.laden[run] = None
            if self._ends:
                self._unreached[run] = None
            if run.may_deliver(now):
                self._line.setdefault(run)
            else:  # It would only be in the way of others.
                self._line.pop(run, None)

    def choose(self, now: float, call: int, verify: Callable[[Run], None]) -> Run | None:
        """A run whose next checkpoint is good to go. Have the first few verified, if none is."""
        considered, ahead = 0, _AHEAD
        for run in self._line:
            if run.ready(now, call):
                return run
            if run.flight.looking:
                continue  # Only those that hang could be many, and not for long.
            considered += 1
            if considered > _CONSIDERED:
                break
            if ahead and run.wants_to_verify(now, call):
                ahead -= 1
                verify(run)
        return None

    def requeue(self, run: Run, now: float) -> None:
        """It has delivered: to the end of the line, for a backlog must not starve other runs."""
        self._line.pop(run, None)
        self.sort(run, now)

    @property
    def reached(self) -> bool:
        """Whether every run has reached `until_step`."""
        return self._ends and not self._unreached
