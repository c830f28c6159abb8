"""
What frameworks do to the disk, one operation at a time, with a look after each.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from replaying import Book, Follower, be_patient, look_by_events, newcomers_view, replay
from steering import virtual_many
from tracing import Disk, Trace, read

TRACES = [read(path) for path in sorted(Path(__file__).parent.glob("*.trace"))]

pytestmark = [
    pytest.mark.anyio,
    virtual_many,
    pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.name),
]


@pytest.fixture(params=["named", "auto"])
def book(request: pytest.FixtureRequest, trace: Trace, run: Path) -> Book:
    return Book(trace, run, auto=request.param == "auto")


async def test_with_events_and_a_fast_trainer(book: Book) -> None:
    """
    No time passes but where files have to settle after the commit point.
    """
    follower, disk = Follower(book, events=True), Disk(book.run)
    await look_by_events(follower, disk, book, replay(disk, book))


async def test_by_polling_and_with_a_trainer_that_stalls(book: Book) -> None:
    """
    After each operation so much time passes that everything settles.
    """
    be_patient(book)
    follower, disk = Follower(book, events=False), Disk(book.run)
    await follower.look()
    for line in replay(disk, book):
        await follower.stall()
        assert not book.due, f"line {line}: {book.due} did not come"
        book.check_reasons(follower.stream)
    follower.check_nothing_is_lost()


async def test_with_a_newcomer_after_each_operation(book: Book) -> None:
    """
    Whoever comes late gets what is finished; of what is written again or deleted it may get some.
    """
    be_patient(book)
    for line in replay(Disk(book.run), book):
        found = await newcomers_view(book)
        absent = set() if book.blind else book.finished() - found
        assert set() == absent, f"line {line}: {absent} did not come"
