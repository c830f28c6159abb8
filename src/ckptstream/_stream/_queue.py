"""What one run has to deliver, in order."""

from __future__ import annotations

import math

from ._order import order
from ._queued import Queued
from ._settling import Settling, places
from .arguments import Options

FIRST_DELAY = 10.0  # seconds until the second attempt; each delay is twice the one before
LONGEST_DELAY = 3600.0


class Queue:
    """
    The finished checkpoints of one run that wait to be delivered.

    Attributes:
        waiting: By key, which is the name most often; the next one first.
        retrying: Those that were delivered in vain, until they wait again.
        delivered: The one that was delivered last.
        eligible: When the next one may be delivered, by `min_interval_secs`.
        left: Whether the run has left its pattern, so that nothing of it is delivered any more.
        pointed: What the pointer names, if it is finished.
        reached: Whether `until_step` was.
        skipped: How many were passed over.
    """

    # A program may follow ten thousand runs, each with one of these; most stay empty for ever.
    __slots__ = (
        *("_count", "_options", "_settling", "delivered", "eligible", "left", "pointed"),
        *("reached", "retrying", "skipped", "waiting"),
    )

    def __init__(self, options: Options, settling: Settling) -> None:
        self._options = options
        self._settling = settling
        self._count = 0  # deliveries
        self.waiting: dict[str, Queued] = {}
        self.retrying: dict[str, Queued] = {}
        self.delivered: Queued | None = None
        self.eligible = -math.inf
        self.left = False
        self.pointed: str | None = None
        self.reached = False
        self.skipped = 0

    def shift(self, seconds: float) -> None:
        """Another event loop has begun, whose clock is so far ahead."""
        self.eligible += seconds
        for queued in self.retrying.values():
            queued.again += seconds

    def is_beyond(self, step: int | None) -> bool:
        """Whether a step comes after the end of what is asked for: `until_step` was reached."""
        return step is not None and self.is_out_of_range(step)

    def is_out_of_range(self, step: int | None) -> bool:
        """Whether `until_step` was reached, and this is not before it."""
        until = self._options.until_step
        return self.reached and until is not None and (step is None or step > until)

    def reach(self, step: int | None) -> None:
        """A checkpoint of this step was delivered, or is known never to be."""
        until = self._options.until_step
        if until is not None and step is not None and step >= until:
            self.reached = True

    def candidate(self) -> Queued | None:
        """What would be delivered next."""
        if self._options.latest_only:
            return self._newest()
        head = None if self._settling.holding else self._head()
        return None if head is None or self._settling.blocker(head.behind) else head

    def _head(self) -> Queued | None:
        in_range = (q for q in self.waiting.values() if not self.is_out_of_range(q.entry.step))
        return next(in_range, None)

    @property
    def held(self) -> bool:
        """Whether something has to settle before it is known what is delivered next."""
        return self._settling.holding or self.blocked is not None

    @property
    def blocked(self) -> tuple[str, str] | None:
        """What would be delivered next, and what has to settle before that."""
        head = None if self._options.latest_only or self._settling.holding else self._head()
        blocker = None if head is None else self._settling.blocker(head.behind)
        return None if head is None or blocker is None else (head.name, blocker)

    def _newest(self) -> Queued | None:
        """The newest one, if it was not delivered; a pointer's word goes before any order."""
        if not self.waiting:
            return None
        if self.pointed is None:
            holding = self._settling.holding
            newest = None if holding else next(reversed(self.waiting.values()))
        else:
            # What the pointer has not named yet may still be named: it is not passed over.
            newest = self.waiting.get(self.pointed)
        return None if newest is not None and self.is_out_of_range(newest.entry.step) else newest

    @property
    def awaits_pointer(self) -> bool:
        """Whether what is finished waits for the pointer's word (`latest_only`)."""
        waits = self._options.latest_only and not (self.reached or self._settling.holding)
        return waits and bool(self.waiting) and self.candidate() is None

    def enter(self, found: list[Queued]) -> None:
        """Let these wait, each as the last one; but before those that waited for it."""
        if not found:
            return  # Ten thousand may wait.
        place_of = places(queued.behind for queued in self.waiting.values())
        earlier = dict[int, list[Queued]]()
        for queued in found:
            place = place_of(queued.name)
            if place is None:
                self.waiting[queued.key] = queued
            else:
                earlier.setdefault(place, []).append(queued)
        if earlier:
            line = list[Queued]()
            for place, queued in enumerate(self.waiting.values()):
                line += (*earlier.get(place, ()), queued)
            self.waiting = {queued.key: queued for queued in line}

    def sort(self) -> None:
        """By step: the first look is complete."""
        found = sorted(self.waiting.values(), key=lambda queued: order(queued.name, queued.entry))
        self.waiting = {queued.key: queued for queued in found}

    def take_out(self, key: str) -> Queued | None:
        """What has that key waits no more."""
        waiting, retrying = self.waiting.pop(key, None), self.retrying.pop(key, None)
        return retrying if waiting is None else waiting

    def lose(self, name: str) -> Queued | None:
        """It is not there any more, or another one is. Returns it, unless a pin of it is kept."""
        queued = self.waiting.get(name) or self.retrying.get(name)
        if queued is None or not self.keeps(queued):
            return self.take_out(name)
        self._enter_again()
        return None

    def keeps(self, queued: Queued) -> bool:
        """It is gone, or another one: whether a pin of it is kept, for it to be delivered."""
        if queued.hold is None or self.left or self._options.latest_only:
            return False
        queued.kept = queued.doubtful = True
        return True

    @property
    def entered(self) -> list[Queued]:
        """All that wait, to be delivered or to be delivered again."""
        return [*self.waiting.values(), *self.retrying.values()]

    def lose_all(self) -> None:
        """The run is not there: what is pinned is kept, and nobody knows of the rest."""
        for queued in self.entered:
            if not queued.kept:
                self.keeps(queued)
        self._enter_again()

    def unkeep(self, queued: Queued) -> None:
        """Its pin is not kept any more, but the run may come back with it."""
        queued.kept = queued.doubtful = False
        self._enter_again()

    def _enter_again(self) -> None:
        """Some have another key: each at its place, since it is still delivered in its turn."""
        self.waiting = {queued.key: queued for queued in self.waiting.values()}
        self.retrying = {queued.key: queued for queued in self.retrying.values()}

    def has(self, queued: Queued) -> bool:
        """Whether it waits, to be delivered or to be delivered again."""
        return queued in (self.waiting.get(queued.key), self.retrying.get(queued.key))

    # What was delivered in vain.

    def give_back(self, queued: Queued) -> None:
        """It is the next one again; of several, the one that was delivered first."""
        queued.given_back = True
        others = list(self.waiting.values())
        back = sorted([q for q in others if q.given_back] + [queued], key=lambda q: q.number)
        rest = [q for q in others if not q.given_back]
        self.waiting = {q.key: q for q in back + rest}

    def retry(self, queued: Queued, now: float) -> float:
        """Deliver it again, later. Returns after how many seconds."""
        delay = min(FIRST_DELAY * 2.0 ** (queued.attempts - 1), LONGEST_DELAY)
        queued.again = now + delay
        self.retrying[queued.key] = queued
        return delay

    def resume(self, now: float) -> None:
        """What is to be delivered again by now waits again."""
        for queued in [queued for queued in self.retrying.values() if queued.again <= now]:
            del self.retrying[queued.key]
            if self._options.latest_only:
                self.waiting = {queued.key: queued, **self.waiting}
            else:
                self.waiting[queued.key] = queued  # The last one: it never blocks newer ones.

    @property
    def next_retry(self) -> float:
        """When the next one waits again."""
        return min((queued.again for queued in self.retrying.values()), default=math.inf)

    def deliver(self, queued: Queued, now: float) -> list[Queued]:
        """Take the candidate out; it is delivered. Returns those that it passes over."""
        passed = list[Queued]()
        if self._options.latest_only:
            # What comes after it the pointer has not named yet; it is not passed over.
            for key in list(self.waiting):
                if key == queued.key:
                    break
                passed.append(self.waiting.pop(key))
            passed += self.retrying.values()
            self.retrying.clear()
        del self.waiting[queued.key]
        self.delivered = queued
        self._count += 1
        queued.number, queued.given_back = self._count, False
        self.eligible = now + self._options.min_interval_secs
        self.reach(queued.entry.step)
        return passed
