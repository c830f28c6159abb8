"""
Patterns in object stores: which runs are followed, and what it costs to learn of new ones.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import pytest
from buckets import SECRET, Proxy, Server, put
from observing import SECONDS

from ckptstream import Checkpoint, CheckpointStream, follow
from ckptstream._scan import Match, Matches, PatternRequest, match, split
from ckptstream._stores import BucketLocation
from ckptstream._threads import _job

pytest.importorskip("obstore")
anyio_tests = pytest.mark.anyio

QUICK = 0.02  # seconds between two looks


def finish(store: Any, run: str, step: int) -> None:
    """
    Upload a checkpoint, its marker last.
    """
    put(store, f"{run}/step_{step}/model.bin", b"weights")
    put(store, f"{run}/step_{step}/DONE")


def quick(*runs: str) -> CheckpointStream:
    return follow(*runs, layout="step_{step}/DONE", poll_interval=QUICK)


async def take(stream: CheckpointStream, count: int) -> list[Checkpoint]:
    with anyio.fail_after(SECONDS):
        return [await anext(stream) for _ in range(count)]


@anyio_tests
async def test_each_prefix_that_matches_is_a_run(server: Server, bucket: str) -> None:
    """
    Those that are there, and those that come later.
    """
    store, root = server.store(bucket), f"s3://{bucket}/sweeps"
    finish(store, "sweeps/a", 1)
    put(store, "sweeps/notes.txt")
    put(store, "elsewhere/step_9/DONE")
    stream = quick(f"{root}/*")

    [first] = await take(stream, 1)
    finish(store, "sweeps/b", 2)
    [second] = await take(stream, 1)

    assert [f"{root}/a", f"{root}/b"] == [first.run, second.run]
    assert f"{root}/b/step_2" == second.path
    assert [2] == [pattern.runs for pattern in stream.status().patterns]


@anyio_tests
async def test_a_prefix_below_each_match(server: Server, bucket: str) -> None:
    """
    A run joins when it has that prefix, though its own was there before.
    """
    store = server.store(bucket)
    put(store, "sweeps/a/config.yaml")
    put(store, "sweeps/b/logs/1.txt")
    finish(store, "sweeps/b/checkpoints", 1)
    stream = quick(f"s3://{bucket}/sweeps/*/checkpoints")

    [first] = await take(stream, 1)
    finish(store, "sweeps/a/checkpoints", 2)
    [second] = await take(stream, 1)

    runs = [f"s3://{bucket}/sweeps/{name}/checkpoints" for name in ("b", "a")]
    assert runs == [first.run, second.run]


@anyio_tests
async def test_a_run_whose_objects_are_deleted_leaves(server: Server, bucket: str) -> None:
    """
    As a directory that is removed.
    """
    store = server.store(bucket)
    finish(store, "sweeps/a", 1)
    finish(store, "sweeps/b", 1)
    stream = quick(f"s3://{bucket}/sweeps/*")
    await take(stream, 2)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, stream, 1)
        for file in ("model.bin", "DONE"):
            store.delete(f"sweeps/a/step_1/{file}")
        with anyio.fail_after(SECONDS):
            while stream.status().patterns[0].runs == 2:
                await anyio.sleep(0.01)
        finish(store, "sweeps/b", 2)

    assert [f"s3://{bucket}/sweeps/b"] == [run.run for run in stream.status().runs]


@anyio_tests
async def test_a_bucket_is_a_root(server: Server, bucket: str) -> None:
    """
    Every first part of a key is a run.
    """
    finish(server.store(bucket), "a", 1)

    [ckpt] = await take(quick(f"s3://{bucket}/*"), 1)

    assert f"s3://{bucket}/a" == ckpt.run


@anyio_tests
async def test_options_are_those_of_all_runs(
    server: Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    And stay as secret as for one.
    """
    for key in server.environment:
        monkeypatch.delenv(key)
    finish(server.store(bucket), "sweeps/a", 1)
    options = f"endpoint={server.endpoint}&allow_http=true&region=us-east-1&access_key_id=test"
    stream = quick(f"s3://{bucket}/sweeps/*?{options}&secret_access_key={SECRET}")

    [ckpt] = await take(stream, 1)

    shown = [repr(stream), str(stream.status()), repr(stream.status()), repr(ckpt)]
    assert f"s3://{bucket}/sweeps/a" == ckpt.run
    assert not [text for text in shown if SECRET in text]


@anyio_tests
async def test_the_requests_of_the_last_hour(server: Server, bucket: str) -> None:
    """
    Of each run, of the pattern itself, and of all; in words, too. A directory makes none.
    """
    assert follow("run").status().requests_last_hour is None
    finish(server.store(bucket), "sweeps/a", 1)
    stream = quick(f"s3://{bucket}/sweeps/*")
    await take(stream, 1)

    [pattern], [run] = stream.status().patterns, stream.status().runs

    assert pattern.requests_last_hour is not None
    assert pattern.requests_last_hour >= 1
    assert run.requests_last_hour is not None
    assert run.requests_last_hour >= 2
    both = pattern.requests_last_hour + run.requests_last_hour
    assert both == stream.status().requests_last_hour
    assert f"{run.requests_last_hour} request" in str(run)
    assert f"{pattern.requests_last_hour} request" in str(pattern)


@anyio_tests
async def test_a_last_look_at_a_slow_server_is_waited_for(
    server: Server, bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It hangs, as far as others are concerned; but its client gives up some day.
    """
    monkeypatch.setattr(_job, "REMOTE_HUNG_AFTER", 0.02)
    pauses = iter([1.5])  # Whether it hangs is asked after a second.
    monkeypatch.setattr(proxy, "wait", lambda: time.sleep(next(pauses, 0)))
    finish(server.store(bucket), "sweeps/a", 1)

    stream = follow(f"s3://{bucket}/sweeps/*", layout="step_{step}/DONE", timeout=0)

    assert [1] == [ckpt.step async for ckpt in stream]


@anyio_tests
async def test_the_last_look_goes_into_everything(server: Server, bucket: str) -> None:
    """
    Nobody's turn comes after it.
    """
    store = server.store(bucket)
    for number in range(25):
        put(store, f"sweeps/{number:02}/config.yaml")

    def expired() -> bool:
        if stream.status().patterns[0].last_look is None:
            return False
        finish(store, "sweeps/24/checkpoints", 1)
        return True

    stream = follow(
        f"s3://{bucket}/sweeps/*/checkpoints",
        layout="step_{step}/DONE",
        poll_interval=3600,
        timeout=0.1,
        timeout_fn=expired,
    )

    assert [1] == [ckpt.step async for ckpt in stream]


# What one look costs.


@dataclass
class Looks:
    """
    One look after the other at a pattern in a store, and what each of them costs.
    """

    store: Any
    pattern: str
    last: Matches | None = None
    known: dict[str, tuple[Match, ...]] = field(default_factory=dict[str, "tuple[Match, ...]"])

    def __post_init__(self) -> None:
        self.root, self.parts = split(f"s3://bucket/{self.pattern}")
        whole = BucketLocation(f"s3://bucket/{self.pattern}", self.pattern, client=self.store)
        self.location = whole.at(self.root)

    def cost(self, *hints: str, thorough: bool = False) -> int:
        """
        How many requests a look makes.
        """
        before, last = self.location.requests, self.last
        request = PatternRequest(
            location=self.location,
            root=self.root,
            parts=self.parts,
            known=self.known,
            hints=hints,
            full=True,
            thorough=thorough,
            seen=frozenset() if last is None else last.seen,
            turn="" if last is None else last.turn,
            ground=None if last is None else last.look.ground,
            subscription=None,
            why_poll="",
            trust_any=False,
        )
        self.last = match(request, lambda: None)
        self.known = {} if self.last.look.full else self.known
        self.known |= self.last.below
        self.known = {name: found for name, found in self.known.items() if found}
        return self.location.requests - before


@pytest.fixture
def store() -> Any:
    """
    An object store in this process.
    """
    from obstore.store import MemoryStore

    return MemoryStore()


class Down:
    """
    A store that does not answer.
    """

    def list_with_delimiter(self, prefix: str | None = None) -> Any:
        from obstore.exceptions import GenericError

        raise GenericError("status code: 503 Service Unavailable")


def test_one_listing_tells_of_all_runs(store: Any) -> None:
    """
    However many there are.
    """
    for number in range(200):
        put(store, f"sweeps/{number}/config.yaml")
    looks = Looks(store, "sweeps/*")

    assert [1, 1, 1] == [looks.cost(), looks.cost(), looks.cost(thorough=True)]
    assert 200 == len(looks.known)


def test_below_the_matches_it_is_looked_in_turn(store: Any) -> None:
    """
    Ten in a look, until it was everyone's turn; what is new comes at once.
    """
    for number in range(25):
        put(store, f"sweeps/{number:02}/config.yaml")
    looks = Looks(store, "sweeps/*/checkpoints")
    first, second = looks.cost(), looks.cost()
    put(store, "sweeps/24/checkpoints/step_1/DONE")
    put(store, "sweeps/99/checkpoints/step_1/DONE")
    third = looks.cost()
    found = [set(looks.known)]
    fourth = looks.cost()
    found.append(set(looks.known))

    assert [26, 11, 12, 11] == [first, second, third, fourth]
    assert [{"99"}, {"99", "24"}] == found


def test_after_a_fault_not_all_is_looked_at_below_the_matches(store: Any) -> None:
    """
    A server that has too much to do is not asked for more.
    """
    for number in range(25):
        put(store, f"sweeps/{number:02}/checkpoints/step_1/DONE")
    looks = Looks(store, "sweeps/*/checkpoints")
    looks.cost()
    known, down = looks.known, cast("Any", Down())
    looks.location.client = down
    looks.cost()
    looks.location.client = store

    assert (1, known) == (looks.cost(), looks.known)


def test_below_the_matches_all_is_looked_at_now_and_then(store: Any) -> None:
    """
    As before a stream ends.
    """
    for number in range(25):
        put(store, f"sweeps/{number:02}/checkpoints/step_1/DONE")
    looks = Looks(store, "sweeps/*/checkpoints")
    looks.cost()
    for number in range(25, 50):
        put(store, f"sweeps/{number:02}/config.yaml")
    looks.cost()

    assert 51 == looks.cost(thorough=True)
    assert 25 == len(looks.known)


def test_what_was_told_of_is_looked_into_at_once(store: Any) -> None:
    """
    Whoever's turn it is.
    """
    for number in range(25):
        put(store, f"sweeps/{number:02}/config.yaml")
    looks = Looks(store, "sweeps/*/checkpoints")
    looks.cost()
    put(store, "sweeps/24/checkpoints/step_1/DONE")
    looks.cost("24")

    assert {"24"} == set(looks.known)


def test_a_second_star_may_match_more(store: Any) -> None:
    """
    Though something below that name matches already.
    """
    looks = Looks(store, "sweeps/*/seed*")
    for number in range(2):
        put(store, f"sweeps/a/seed{number}/step_1/DONE")
        looks.cost()

    assert ["s3://bucket/sweeps/a/seed0", "s3://bucket/sweeps/a/seed1"] == [
        found.path for found in looks.known["a"]
    ]


class Refusing:
    """
    A store that lists all but one prefix.
    """

    def __init__(self, store: Any, refused: str) -> None:
        self._store = store
        self._refused = refused

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def list_with_delimiter(self, prefix: str | None = None) -> Any:
        from obstore.exceptions import GenericError

        if prefix == self._refused:
            raise GenericError("status code: 403 Forbidden")
        return self._store.list_with_delimiter(prefix)


def test_what_cannot_be_listed_has_not_gone(store: Any) -> None:
    """
    Its runs are followed on, and why is known.
    """
    for name in "ab":
        put(store, f"sweeps/{name}/checkpoints/step_1/DONE")
    looks = Looks(store, "sweeps/*/checkpoints")
    looks.cost()
    looks.location.client = Refusing(store, "sweeps/a")
    looks.cost(thorough=True)

    assert {"a", "b"} == set(looks.known)
    assert looks.last is not None
    assert "403 Forbidden" in looks.last.unreadable["a"]


def test_a_match_that_is_gone_costs_nothing(store: Any) -> None:
    """
    The listing of the root says so.
    """
    for number in range(3):
        put(store, f"sweeps/{number}/checkpoints/step_1/DONE")
    looks = Looks(store, "sweeps/*/checkpoints")
    looks.cost()
    store.delete("sweeps/1/checkpoints/step_1/DONE")
    looks.cost()

    assert {"0", "2"} == set(looks.known)
