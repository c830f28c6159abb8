"""
How often a run is asked about where each request is paid for.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ckptstream._scan import Entry, Look, Trouble
from ckptstream._stores import BucketLocation
from ckptstream._stream._cadence import Cadence
from ckptstream._stream._requests import Requests

LONGEST, SHORTEST = 60.0, 10.0
MINUTE = 60
SECOND = 1_000_000_000  # nanoseconds


@dataclass
class Clocks:
    """
    What time it is, here and on the store's clock.
    """

    now: float = 1_000_000.0

    def after(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocks]:
    """
    Stand still.
    """
    found = Clocks()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: found.now)
        patched.setattr(time, "monotonic", lambda: found.now)
        patched.setattr(random, "uniform", lambda low, high: high)
        yield found


def entry(missing: str | None = None) -> Entry:
    return Entry(1, "hf", ("checkpoint-1",), missing, None)


QUIET = Look(full=True)
FINISHED = Look(full=True, changed={"checkpoint-1": entry()})
ARRIVES = Look(full=True, changed={"checkpoint-2": entry("no trainer_state.json")})
FAILED = Look(trouble=Trouble.UNREADABLE)


def each_twenty_minutes(clocks: Clocks, longest: float = LONGEST) -> Cadence:
    """
    The newest has just been written.
    """
    cadence = Cadence(longest)
    written = [int((clocks.now - ago * MINUTE) * SECOND) for ago in (40, 20, 0)]
    cadence.learn(FINISHED, written)
    return cadence


def test_of_a_run_of_which_nothing_is_known(clocks: Clocks) -> None:
    """
    At first often, then ever less.
    """
    cadence = Cadence(LONGEST)
    intervals = list[float]()
    for _ in range(4):
        intervals.append(cadence.interval)
        clocks.after(10 * MINUTE)

    assert [SHORTEST, 30.0, LONGEST, LONGEST] == intervals


def test_while_the_next_one_is_far(clocks: Clocks) -> None:
    """
    As seldom as the user allows.
    """
    cadence = each_twenty_minutes(clocks)
    intervals = [cadence.interval]
    clocks.after(10 * MINUTE)

    assert [LONGEST, LONGEST] == [*intervals, cadence.interval]


def test_when_it_will_soon_be_due(clocks: Clocks) -> None:
    """
    The next look comes when it is.
    """
    cadence = each_twenty_minutes(clocks)
    clocks.after(16 * MINUTE - 25)

    assert cadence.interval == pytest.approx(25)


def test_while_it_is_due(clocks: Clocks) -> None:
    """
    Often: somewhat before the moment, and for a while after it.
    """
    cadence = each_twenty_minutes(clocks)
    intervals = set[float]()
    for minute in (16, 20, 25):
        clocks.now = 1_000_000.0 + minute * MINUTE
        intervals.add(cadence.interval)

    assert {SHORTEST} == intervals


def test_when_it_is_late(clocks: Clocks) -> None:
    """
    Ever less often: most runs end one day.
    """
    cadence = each_twenty_minutes(clocks)
    intervals = list[float]()
    for minute in (30, 35, 45, 24 * 60):
        clocks.now = 1_000_000.0 + minute * MINUTE
        intervals.append(cadence.interval)

    assert [15.0, 30.0, LONGEST, LONGEST] == intervals


def test_while_something_arrives(clocks: Clocks) -> None:
    """
    Often, whenever that is.
    """
    cadence = each_twenty_minutes(clocks)
    clocks.after(5 * MINUTE)
    cadence.learn(ARRIVES, [int((clocks.now - ago * MINUTE) * SECOND) for ago in (45, 25, 5)])

    assert SHORTEST == cadence.interval


def test_what_is_saved_between_two(clocks: Clocks) -> None:
    """
    Does not hide the shorter gap.
    """
    cadence = Cadence(LONGEST)
    cadence.learn(FINISHED, [int((clocks.now - ago * MINUTE) * SECOND) for ago in (25, 20, 0)])
    clocks.after(5 * MINUTE)

    assert SHORTEST == cadence.interval


def test_two_of_the_same_second(clocks: Clocks) -> None:
    """
    As copies are: they say nothing of how long the next one takes.
    """
    cadence = Cadence(LONGEST)
    cadence.learn(FINISHED, [int((clocks.now - ago * MINUTE) * SECOND) for ago in (20, 0, 0)])
    clocks.after(10 * MINUTE)

    assert LONGEST == cadence.interval


@pytest.mark.parametrize(("longest", "shortest"), [(5.0, 5.0), (30.0, 10.0), (600.0, 100.0)])
def test_within_what_the_user_says(clocks: Clocks, longest: float, shortest: float) -> None:
    """
    Never later than that, and no more often than a sixth of it or ten seconds.
    """
    cadence = each_twenty_minutes(clocks, longest)
    far = cadence.interval
    clocks.after(20 * MINUTE)

    assert (longest, shortest) == (far, cadence.interval)


def test_a_store_whose_clock_is_ahead(clocks: Clocks) -> None:
    """
    Nothing is derived from a moment that has not come here: it counts since something changed.
    """
    cadence = Cadence(LONGEST)
    ahead = clocks.now + 24 * 60 * MINUTE
    cadence.learn(FINISHED, [int((ahead - ago * MINUTE) * SECOND) for ago in (40, 20, 0)])
    intervals = [cadence.interval]
    clocks.after(10 * MINUTE)

    assert [SHORTEST, 30.0] == [*intervals, cadence.interval]


def test_a_fault_of_the_storage_is_not_repeated_at_once(clocks: Clocks) -> None:
    """
    Twice as late each time, up to the longest interval, and as before once it is over.
    """
    cadence = Cadence(LONGEST)
    intervals = list[float]()
    for _ in range(8):
        cadence.learn(FAILED, ())
        intervals.append(cadence.interval)
    cadence.learn(QUIET, ())

    assert [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] == intervals
    assert SHORTEST == cadence.interval


def test_what_is_not_there_is_no_fault(clocks: Clocks) -> None:
    """
    It is asked about like a run of which nothing is known.
    """
    cadence = Cadence(LONGEST)
    cadence.learn(Look(trouble=Trouble.MISSING), ())

    assert SHORTEST == cadence.interval


def test_requests_of_a_stream_of_which_nobody_asks_any_more(clocks: Clocks) -> None:
    """
    After an hour none of them was made in the last one.
    """
    location = BucketLocation("s3://bucket/run")
    requests = Requests(location)
    counts = list[int | None]()
    for _ in range(3):
        location.requests += 10
        requests.note()
        clocks.after(10 * MINUTE)
        counts.append(requests.last_hour)
    for _ in range(2):
        clocks.after(60 * MINUTE)
        counts.append(requests.last_hour)

    assert [10, 20, 30, 0, 0] == counts


def test_runs_that_began_together_do_not_ask_together() -> None:
    """
    Neither when all is well nor after a fault.
    """
    cadences = [Cadence(LONGEST) for _ in range(20)]
    well = {cadence.interval for cadence in cadences}
    for cadence in cadences:
        cadence.learn(FAILED, ())
    after = {cadence.interval for cadence in cadences}

    assert (20, 20) == (len(well), len(after))
    assert all(0.5 <= pause <= 1.0 for pause in after)
    assert all(0.8 * SHORTEST <= pause <= SHORTEST for pause in well)


def test_the_requests_of_the_last_hour(clocks: Clocks) -> None:
    """
    Those before it do not count, give or take five minutes.
    """
    location = BucketLocation("s3://bucket")
    requests = Requests(location)
    for _ in range(3 * 60):
        location.requests += 1
        assert 1 == requests.note()
        clocks.after(MINUTE)

    assert requests.last_hour is not None
    assert 59 <= requests.last_hour <= 65
