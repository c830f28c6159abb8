"""The server that `object_store.py` starts, the runs in its buckets, and their trainers."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import _store_server
from _store_clients import MARKER, run_of

_STEPS = 1_000  # from one checkpoint to the next
_SIZE = 256  # bytes: no contender reads more of an object than that
_LATE = 1.0  # seconds that a trainer may be late before it says so


class Server:
    """A server in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, _store_server.__file__], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def connect(self) -> http.client.HTTPConnection:
        """A connection, for one thread."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def counts(self, bucket: str, **order: object) -> dict[str, int]:
        """How many requests there were, and bytes; fills the bucket with *objects* before."""
        connection = self.connect()
        body = json.dumps({"bucket": bucket, **order})
        connection.request("POST", _store_server.CONTROL, body)
        counts: dict[str, int] = json.loads(connection.getresponse().read())
        connection.close()
        return counts


class Plan(NamedTuple):
    """
    How the runs save.

    Attributes:
        runs: How many there are.
        cadence: Seconds from one checkpoint of a run to its next one.
        jitter: By how much of it, at most, each one comes earlier or later.
        history: How many checkpoints each run has.
        files: How many objects a checkpoint is, with its marker.
        share: Where in the cadence the first run saves, of 0 to 1; the others are spread over it.
    """

    runs: int
    cadence: float
    jitter: float
    history: int
    files: int
    share: float


class Commit(NamedTuple):
    """A checkpoint's last object, put at a time in seconds since 1970."""

    at: float
    run: int
    number: int

    @property
    def path(self) -> str:
        """Below the bucket."""
        return f"{run_of(self.run)}/step_{self.number * _STEPS}"


class Trainers:
    """
    All runs of one bucket: they have saved before, and go on with it from now on.

    Attributes:
        times: When each checkpoint's last PUT began, by CLOCK_MONOTONIC.
    """

    def __init__(self, server: Server, bucket: str, plan: Plan, seconds: float) -> None:
        self.times = dict[str, float]()
        self._server, self._bucket, self._plan = server, bucket, plan
        self._connection = server.connect()
        self._stopped = threading.Event()
        now = time.time()
        commits = sorted(self._commits(now, seconds))
        history = [commit for commit in commits if commit.at < now]
        self._numbers = {commit.run: commit.number for commit in history}
        server.counts(bucket, objects=[each for old in history for each in self._objects(old)])
        self._thread = threading.Thread(
            target=self._save, args=(commits[len(history) :],), daemon=True
        )
        self._thread.start()

    def _commits(self, now: float, seconds: float) -> Iterator[Commit]:
        """Each run's, from the history's on."""
        plan = self._plan
        # The runs that lie next to each other must not save one after the other.
        order = random.sample(range(plan.runs), plan.runs)
        for run, place in enumerate(order):
            phase = (place / plan.runs + plan.share) % 1
            for number in range(1, plan.history + 3 + int(seconds / plan.cadence)):
                late = random.uniform(-plan.jitter, plan.jitter)
                at = now + (phase + number - 1 - plan.history + late) * plan.cadence
                yield Commit(at, run, number)

    def _objects(self, commit: Commit) -> Iterator[tuple[str, int, float]]:
        for path in self._paths(commit):
            yield path, _SIZE, commit.at

    def _paths(self, commit: Commit) -> list[str]:
        weights = [f"model-{number:05}.bin" for number in range(1, self._plan.files)]
        return [f"{commit.path}/{name}" for name in (*weights, MARKER)]

    def _save(self, commits: list[Commit]) -> None:
        late = 0.0
        for commit in commits:
            if self._stopped.wait(commit.at - time.time()):
                break
            late = max(late, time.time() - commit.at)
            self._put(commit)
        if late > _LATE:
            print(f"a trainer was {late:.1f} s late", file=sys.stderr)

    def _put(self, commit: Commit) -> None:
        *weights, marker = self._paths(commit)
        for path in weights:
            self._request(path)
        now = time.monotonic()
        self._request(marker)
        self.times[commit.path] = now
        self._numbers[commit.run] = commit.number

    def _request(self, path: str) -> None:
        self._connection.request("PUT", f"/{self._bucket}/{path}", path.encode())
        answer = self._connection.getresponse()
        assert answer.status == 200
        answer.read()

    def stop(self) -> None:
        """Save no more, but when told."""
        self._stopped.set()
        self._thread.join()

    def save(self) -> str:
        """Have a run save now; returns the checkpoint's path."""
        run = random.randrange(self._plan.runs)
        commit = Commit(time.time(), run, self._numbers[run] + 1)
        self._put(commit)
        return commit.path


def difference(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """What has been counted meanwhile."""
    return {name: number - before.get(name, 0) for name, number in after.items()}
