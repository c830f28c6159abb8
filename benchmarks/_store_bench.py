"""How `object_store.py` measures each contender: what its processes do, and what becomes of it."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import _store_clients
from _many_child import Child
from _store_clients import CONTENDERS, LOOKING
from _store_trees import Plan, Server, Trainers, difference

FEW = 20  # runs: so many have no more than a few checkpoints in a window
_LIGHT = 100  # runs: so many are no load, and all contenders take them at once
_PATIENCE = 90.0  # seconds until what was not heard of is given up
_REST = 3.0  # seconds after a wake: what it set off is over


class Settings(NamedTuple):
    """What is measured; times in seconds. See `object_store.py --help`."""

    window: float
    interval: float
    cadence: float
    jitter: float
    history: int
    files: int
    rounds: int
    wakes: int


@dataclass
class Round:
    """What one contender took in one round, and when it heard of what was saved then."""

    seconds: float
    cpu: float
    looks: int
    counts: Mapping[str, int]
    latencies: list[float] = field(default_factory=list[float])
    unheard: int = 0
    wakes: list[float] = field(default_factory=list[float])
    wake_requests: list[int] = field(default_factory=list[int])

    @property
    def requests(self) -> int:
        """Of the contender, of all kinds."""
        return requests(self.counts)


class First(NamedTuple):
    """What the first look took."""

    seconds: float
    cpu: float
    requests: int
    bytes: int


@dataclass
class Result:
    """
    What one contender took.

    Attributes:
        trouble: Why it could not be measured.
        counted: How many requests it counted itself, and how many the server did.
    """

    rounds: list[Round] = field(default_factory=list[Round])
    firsts: list[First] = field(default_factory=list[First])
    trouble: str = ""
    counted: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


class Key(NamedTuple):
    """A contender, and how many runs it follows."""

    title: str
    size: int


Results = dict[Key, Result]


class Trouble(Exception):
    """A contender cannot do it."""


class _Sample(NamedTuple):
    at: float
    cpu: float
    looks: int
    counts: Mapping[str, int]


def requests(counts: Mapping[str, int]) -> int:
    """How many of all kinds, but the trainers'."""
    return sum(number for kind, number in counts.items() if kind not in {"bytes", "PUT"})


class Measurement:
    """One process that follows runs in a bucket of its own."""

    def __init__(self, server: Server, bucket: str, key: Key, settings: Settings, share: float):
        self._server, self._bucket, self._key, self._settings = server, bucket, key, settings
        self._copies = settings.rounds if key.size < FEW else 1
        # Where few runs save, the window is longer, and each process is one round.
        self._window = settings.window * (2 if key.size < FEW else 1)
        self._parts = 1 if key.size < FEW else settings.rounds
        self._warm_up = 0.1 * self._window
        plan = Plan(
            key.size, settings.cadence, settings.jitter, settings.history, settings.files, share
        )
        lasts = self._window + self._warm_up + LOOKING
        self._trainers = Trainers(server, bucket, plan, lasts)
        self._heard = dict[str, float]()

    def measure(self) -> Result:
        """All of it."""
        title, size = self._key
        spec = {"title": title, "endpoint": self._server.endpoint, "bucket": self._bucket}
        program = _store_clients.__file__
        interval = CONTENDERS[title].interval or self._settings.interval
        try:
            with Child(program, size=size, interval=interval, **spec) as self._child:
                return self._measure()
        except Trouble as trouble:
            return Result(trouble=str(trouble))
        except OSError as error:
            return Result(trouble=f"its process, or the server, is gone: {error}")
        finally:
            self._trainers.stop()

    def _measure(self) -> Result:
        answer = _checked(self._child.hear(LOOKING + 60))
        counts = self._server.counts(self._bucket)
        first = First(answer["seconds"], answer["cpu"], requests(counts), counts.get("bytes", 0))
        time.sleep(self._warm_up)
        samples = [self._sample()]
        for number in range(self._parts):
            until = samples[0].at + (number + 1) * self._window / self._parts
            time.sleep(max(0.0, until - time.monotonic()))
            samples.append(self._sample())
        self._trainers.stop()
        self._hear_all(samples[0].at, samples[-1].at)
        rounds = [self._round(*pair) for pair in itertools.pairwise(samples)]
        if self._ask()["wakes"]:
            for each in rounds:
                self._wake(each)
        counted = self._ask(count=True)["counted"]
        both = [] if counted is None else [(counted, requests(self._sample().counts))]
        return Result(rounds, [first], counted=both)

    def _sample(self) -> _Sample:
        answer = self._ask()
        counts = self._server.counts(self._bucket)
        return _Sample(answer["at"], answer["cpu"], answer["looks"], counts)

    def _ask(self, **what: object) -> Mapping[str, Any]:
        answer = _checked(self._child.tell(**what))
        for path, moment in answer["times"]:
            self._heard.setdefault(path, moment)
        return answer

    def _hear_all(self, began: float, ended: float) -> None:
        """Hear of what was saved in that time, if it ever comes."""
        saved = {path for path, at in self._trainers.times.items() if began <= at < ended}
        until = time.monotonic() + _PATIENCE
        while saved - self._heard.keys() and time.monotonic() < until:
            time.sleep(1)
            self._ask()

    def _round(self, before: _Sample, after: _Sample) -> Round:
        counts = difference(after.counts, before.counts)
        looks = after.looks - before.looks
        found = Round(after.at - before.at, after.cpu - before.cpu, looks, counts)
        for path, at in self._trainers.times.items():
            if before.at <= at < after.at:
                if path in self._heard:
                    found.latencies.append(self._heard[path] - at)
                else:
                    found.unheard += 1
        return found

    def _wake(self, into: Round) -> None:
        """Have a run save, and say so at once, as a webhook would."""
        for _ in range(self._settings.wakes):
            before = requests(self._server.counts(self._bucket))
            path = self._trainers.save()
            self._ask(wake=True)
            until = time.monotonic() + _PATIENCE
            while path not in self._heard and time.monotonic() < until:
                time.sleep(0.05)
                self._ask()
            if path not in self._heard:
                into.unheard += 1
                continue
            into.wakes.append(self._heard[path] - self._trainers.times[path])
            time.sleep(_REST)
            into.wake_requests.append(requests(self._server.counts(self._bucket)) - before)


def _checked(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if "trouble" in answer:
        raise Trouble(answer["trouble"])
    return answer


def measure(keys: Sequence[Key], settings: Settings) -> Results:
    """Those with few runs all at once, the others one after the other."""
    results: Results = {key: Result() for key in keys}
    todo = list[Key]()
    for key in keys:
        if CONTENDERS[key.title].installed:
            todo.append(key)
        else:
            results[key].trouble = "not installed"
    light = [key for key in todo if key.size <= _LIGHT]
    if light:
        _at_once(light, settings, results)
    for key in todo:
        if key not in light:
            _at_once([key], settings, results)
    return results


def _at_once(keys: Sequence[Key], settings: Settings, results: Results) -> None:
    numbers = itertools.count()
    tasks = list[tuple[Key, float]]()
    for key in keys:
        print(f"{key.size:,} runs: {key.title}", file=sys.stderr)
        copies = settings.rounds if key.size < FEW else 1
        tasks += ((key, copy / copies) for copy in range(copies))
    with Server() as server, ThreadPoolExecutor(len(tasks)) as pool:
        names = [f"bucket-{next(numbers)}" for _ in tasks]
        measured = pool.map(
            lambda name, task: Measurement(server, name, task[0], settings, task[1]).measure(),
            names,
            tasks,
        )
        for (key, _), one in zip(tasks, measured, strict=True):
            merged = results[key]
            merged.rounds += one.rounds
            merged.firsts += one.firsts
            merged.counted += one.counted
            merged.trouble = merged.trouble or one.trouble
