"""When a run wants to be looked at, if nothing happens before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import anyio

from .._scan import Look, Trouble
from .._stores import Location
from ._cadence import Cadence
from ._joining import Joining
from ._requests import Requests

SAFETY_INTERVAL = 120.0  # seconds between looks that trust no event
_PAID_SAFETY = 5  # poll intervals between them where each request is paid for, or as many as
# the last of them took requests
_LONGEST_SAFETY = 3600.0  # seconds
_LONGEST = 1e9  # seconds
_LAST_PATIENCE = 30.0  # seconds in which a last look that has failed is made again
GAP_INTERVAL = 1.0  # seconds between looks at a run that cannot be read
_SHORTEST = 0.01  # seconds: TensorFlow's seconds_to_sleep may be 0
_POLL_BEATS = 10  # in one poll interval
_SAFETY_BEAT = 4.0  # seconds
_PAID_BEAT = 1.0  # seconds, and less where there are fewer than
_PAID_BEATS = 8  # in the interval
_MARGIN = 0.001  # seconds: timers of an event loop may fire a little early


class Scope(NamedTuple):
    """
    What a look goes over; `Request` says what each means.

    Attributes:
        settled: The entries that may have settled by now.
    """

    full: bool
    whole: bool
    thorough: bool
    settled: list[str]


class Timers:
    """
    One run's, on the event loop's clock.

    Args:
        location: Where it lies.
        poll_interval: Seconds between two looks, where no event would tell; None: as it is usual
            there. Where each look is paid for, the longest time between two.

    Attributes:
        poll_at: When to list the directory, where no event would tell.
        safety_at: When to look at everything, whatever the events said.
        last_from: The stream's last look is one that began at or after this moment.
        last_until: When what was there at that look has settled; None before that look.
    """

    __slots__ = (
        "_cadence",
        "_jitter",
        "_joining",
        "_poll_interval",
        "_requests",
        "_settled_by",
        "_settling",
        "last_from",
        "last_until",
        "poll_at",
        "safety_at",
    )

    def __init__(self, location: Location, poll_interval: float | None) -> None:
        interval = location.poll_interval if poll_interval is None else poll_interval
        self._poll_interval = min(max(interval, _SHORTEST), _LONGEST)
        self._cadence: Cadence | None = None
        self._requests: Requests | None = None
        self._joining: Joining | None = None
        if location.requests is not None:
            self._joining = Joining()
            self._cadence, self._requests = Cadence(self._poll_interval), Requests(location)
        # A thousand runs that began together must not look together. Where an object lies in
        # memory is as good as a random number.
        self._jitter = 0.9 + (id(self) >> 4) % 2003 / 2003 * 0.2
        self.poll_at = math.inf
        self.safety_at = -math.inf
        self.last_from = math.inf
        self.last_until: float | None = None
        self._settled_by = -math.inf  # the same moment, on the looks' own clock
        self._settling: dict[str, float] = {}  # when each entry may have settled

    @property
    def requests_last_hour(self) -> int | None:
        """How many were made in the last hour; None where they are not paid for."""
        return None if self._requests is None else self._requests.last_hour

    @property
    def next(self) -> float:
        """When the next of them is due."""
        due = min(self.poll_at, self.safety_at)
        if self._settling:
            due = min(due, *self._settling.values())
        return due if self.last_until is None else min(due, self.last_until)

    def due(self, told: bool) -> float:
        """When to look; *told*: something has happened that no look was told of yet."""
        joining = self._joining if told else None
        return self.next if joining is None else min(self.next, joining.rests_until)

    def wants_look(self, told: bool, now: float) -> bool:
        """Whether to look now; *told* as above."""
        at_once = told and (self._joining is None or self.last_from < math.inf)
        return at_once or self.due(told) <= now

    def look(self, now: float, events: int) -> None:
        """A look begins; *events*: how many have told of something until now."""
        if self._joining is not None:
            self._joining.look(now, events)

    def scope(self, now: float, everything: bool, polled: bool) -> Scope:
        """
        What the look that is due goes over.

        Args:
            now: The time.
            everything: Whether anything may have happened.
            polled: Whether no events tell.
        """
        thorough = self.safety_at <= now
        if self._cadence is not None:
            thorough |= self.last_from < math.inf  # Then it is the last chance.
        whole, settled = everything or thorough, self._settled(now)
        full = whole or self.poll_at <= now
        # Of what has come beside those that settle no event tells.
        full |= bool(settled) and polled
        full |= self.last_until is not None and self.last_until <= now
        return Scope(full, whole, thorough, settled)

    def _settled(self, now: float) -> list[str]:
        """The entries that may have settled by now."""
        if not self._settling:
            return []
        names = [name for name, moment in self._settling.items() if moment <= now]
        for name in names:
            # Asked once: a look that fails, or finds nothing new, must not be wanted again at once.
            del self._settling[name]
        return names

    def shift(self, seconds: float) -> None:
        """Another event loop has begun, whose clock is so far ahead."""
        self.safety_at += seconds
        self.poll_at += seconds
        self._settling = {name: moment + seconds for name, moment in self._settling.items()}
        self.last_from += seconds
        if self._joining is not None:
            self._joining.shift(seconds)
        self.last_until = None if self.last_until is None else self.last_until + seconds

    def restart(self) -> None:
        """What is known is out of date: a listing finds anew what has to settle."""
        if self._cadence is not None:
            return  # Looks are paid for, and no event was lost meanwhile.
        self.poll_at = math.inf
        self._settling.clear()

    def explain_soon(self) -> None:
        """Something lies there that is no checkpoint: it need not be explained at once."""
        self.look_by(anyio.current_time() + GAP_INTERVAL)

    def look_by(self, moment: float) -> None:
        """List the directory at that time at the latest."""
        self.poll_at = min(self.poll_at, moment)

    def set(
        self,
        result: Look,
        now: float,
        thorough: bool,
        listed: bool,
        written: Iterable[int] = (),
    ) -> None:
        """
        After a look.

        Args:
            result: What it found.
            now: The time.
            thorough: Whether it looked at everything, whatever the events said.
            listed: Whether it listed the directory, or was to.
            written: When the newest finished checkpoints were, in nanoseconds.
        """
        made = 0 if self._requests is None else self._requests.note()
        if thorough:
            rest = SAFETY_INTERVAL
            if self._cadence is not None:
                rest = min(self._poll_interval * max(_PAID_SAFETY, made), _LONGEST_SAFETY)
            self.safety_at = _on_beat(now + rest * self._jitter, min(rest, _SAFETY_BEAT))
        if self._cadence is not None:
            self._cadence.learn(result, written)
            if not listed and result.trouble is None and self.poll_at < math.inf:
                self._set_settling(result, now)
                return  # What was asked about one name does not put off the rest.
        self.poll_at = math.inf
        if self._cadence is not None:
            self._ask_again(now, self._cadence.interval)
        elif result.trouble is Trouble.LOCKED:
            self.poll_at = now + GAP_INTERVAL
        elif result.watcher == "poll":
            interval = self._poll_interval
            self.poll_at = _on_beat(now + interval, interval / _POLL_BEATS)
        elif result.trouble not in {None, Trouble.MISSING}:
            self.poll_at = now + GAP_INTERVAL
        self._set_settling(result, now)

    def _ask_again(self, now: float, interval: float) -> None:
        """Where that is paid for."""
        # Not a part of the interval itself: each is another one, and no two of them would meet.
        beat = 2.0 ** math.floor(math.log2(interval / _PAID_BEATS))
        self.poll_at = _on_beat(now + interval, min(_PAID_BEAT, beat))
        given_up = self.last_from + _LAST_PATIENCE
        if now < given_up:
            self.look_by(given_up)

    def _set_settling(self, result: Look, now: float) -> None:
        if not (self._settling or result.settling):
            return
        if result.full or result.trouble is not None:
            self._settling.clear()  # After trouble comes a listing, which finds them again.
        for name in (*result.changed, *result.gone):
            self._settling.pop(name, None)
        for name, delay in result.settling.items():
            self._settling[name] = now + delay + _MARGIN

    def is_last(self, result: Look, began: float, ended: float, now: float) -> bool:
        """
        Whether a look completes the stream's last look.

        A complete look includes the settle interval where evidence needs two looks.

        Args:
            result: What it found.
            began: When it was asked for.
            ended: When it ended, on its own clock.
            now: The time.
        """
        if result.trouble is Trouble.LOCKED:
            return False  # What it found is not known: it is made again, or raises in the end.
        failed = self._cadence is not None and result.trouble is Trouble.UNREADABLE
        if failed and now - self.last_from < _LAST_PATIENCE:
            return False  # One request of many: it is made again.
        if began < self.last_from or not (result.full or result.trouble is not None):
            return False
        if result.trouble is not None:
            # It may be over before the interval is.
            return self.last_until is None or began >= self.last_until
        if not result.settling or result.ground is None:
            return True
        if self.last_until is None:
            self._settled_by = ended + result.ground.profile.settle
        # By the look's clock: the event loop's is read at other moments, and may stand still.
        self.last_until = now + self._settled_by - ended + _MARGIN
        return result.began >= self._settled_by


def _on_beat(moment: float, beat: float) -> float:
    """
    The last beat until *moment*, on the event loop's clock.

    Waking a loop costs more than a look that finds nothing new: a thousand runs wake it a few
    times together, whichever stream they are in.
    """
    return math.floor(moment / beat + 1e-6) * beat
