"""How `many_runs.py` measures each contender: what its processes do, and what becomes of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from _common import Spread, quantile, spread
from _many_child import Child, Result
from _many_measures import PATIENCE
from _many_peers import CONTENDERS, EACH, ONE
from _many_trees import OLD, Trees

MANY_OLD = 20  # checkpoints that each run holds where the first look is measured
LEAST_IDLE = 250.0  # seconds: two safety looks
_STEADY = 60.0  # seconds: enough where every second is the same
_EVENTS, _EVENTS_SECONDS = 100, 4.0

Results = dict[tuple[str, int], Result]
Answer = tuple[Result, Mapping[tuple[str, int], float]]  # with the time of each commit


class Bench:
    """What to measure, and on what."""

    def __init__(self, options: argparse.Namespace, trees: Trees) -> None:
        self.options = options
        self.sizes: list[int] = options.sizes
        self.trees = trees

    def titles(self, *titles: str) -> list[str]:
        """Of these contenders those to be measured, in the event loops asked for."""
        backends = self.options.backends
        return [
            title
            for title, contender in CONTENDERS.items()
            if title.removesuffix(f", {contender.backend}") in titles
            and contender.backend in backends
            and self.options.follows in title
        ]

    def measure(
        self,
        titles: Sequence[str],
        sizes: Sequence[int],
        measure: Callable[[str, int], Result],
        old: int = OLD,
        parallel: int = 1,
    ) -> Results:
        """Each contender with each number of runs."""
        keys = [(title, size) for size in sizes for title in titles]
        results: Results = {key: self._why_not(*key) for key in keys}
        todo = [key for key, result in results.items() if "trouble" not in result]
        for title, size in todo:
            self.trees.grow(CONTENDERS[title].kind, old, size + 1)
        with ThreadPoolExecutor(parallel) as pool:
            measured = pool.map(lambda key: self._one(measure, *key), todo)
            results.update(zip(todo, measured, strict=True))
        return results

    @staticmethod
    def _one(measure: Callable[[str, int], Result], title: str, size: int) -> Result:
        print(f"{size} runs: {title}", file=sys.stderr)
        return measure(title, size)

    @staticmethod
    def _why_not(title: str, size: int) -> Result:
        contender = CONTENDERS[title]
        if not contender.installed:
            return {"said": "", "trouble": "not installed"}
        if size > contender.at_most:
            return {"said": "", "trouble": f"not tried with more than {contender.at_most:,}"}
        return {}

    def child(self, measure: str, title: str, size: int, old: int = OLD, **spec: object) -> Child:
        """A process that follows so many runs."""
        root = self.trees.grow(CONTENDERS[title].kind, old, size + 1)
        return Child(measure=measure, title=title, runs=size, root=root, **spec)

    # What is measured.

    def idle(self, title: str, size: int) -> Result:
        """Nothing happens."""
        seconds, safety = self.options.idle_seconds, title in self.titles(ONE, EACH)
        if not safety:
            seconds = min(seconds, _STEADY)
        with self.child("idle", title, size, seconds=seconds) as child:
            result = child.hear(seconds + 600)
        short = safety and seconds < LEAST_IDLE
        note = f"{seconds:g} s" + (" only: not two safety looks" if short else "")
        return {"note": note, **result}

    def start(self, title: str, size: int) -> Result:
        """The first look."""
        seconds, result = list[float](), dict[str, Any]()
        for _ in range(self.options.rounds):
            with self.child("start", title, size, MANY_OLD) as child:
                result = {**child.hear(600)}
            if "trouble" in result:
                return result
            seconds.append(result["seconds"])
        return {**result, "seconds": spread(seconds)}

    def burst(self, title: str, size: int) -> Result:
        """Each run commits within a second."""
        return self._commit(title, size, size, 1.0, probe=True)

    def growth(self, title: str, size: int) -> Result:
        """One commit now and then."""
        return self._commit(title, size, _EVENTS, _EVENTS_SECONDS, probe=False)

    def _commit(
        self, title: str, size: int, commits: int, seconds: float, *, probe: bool
    ) -> Result:
        rounds, kind = self.options.rounds, CONTENDERS[title].kind
        spec = {"rounds": rounds, "commits": commits, "seconds": seconds, "probe": probe}
        moves = self.trees.prepare(kind, size, [commits] * rounds)
        answers = list[Answer]()
        try:
            with (
                self.child("rounds", title, size, **spec) as child,
                Child(measure="write") as other,
            ):
                for batch in moves:
                    ready = child.hear(600)
                    if "trouble" in ready:
                        return ready
                    times = other.tell(moves=batch, seconds=seconds)["times"]
                    answer = child.hear(seconds + 2 * PATIENCE)
                    if "trouble" in answer:
                        return answer
                    keys = [(move.run, move.step) for move in batch]
                    answers.append((answer, dict(zip(keys, times, strict=True))))
        finally:
            self.trees.restore(kind, moves)
        return _summary(answers)


def _summary(answers: Sequence[Answer]) -> Result:
    rounds, unheard = list[list[float]](), 0
    for answer, committed in answers:
        heard = {(run, step): moment for run, step, moment in answer["times"]}
        both = committed.keys() & heard.keys()
        if not both:
            return {**answer, "trouble": "heard of nothing"}
        rounds.append([heard[key] - committed[key] for key in both])
        unheard += len(committed) - len(both)
    measured = dict[str, Spread]()
    for share in (50, 99, 100):
        measured[f"p{share}"] = spread(quantile(each, share / 100) for each in rounds)
    for name in ("late", "queued", "cpu"):
        measured[name] = spread(answer[name] for answer, _ in answers)
    cost = Spread(*(value / len(answers[-1][1]) for value in measured["cpu"]))
    return {"said": answers[-1][0]["said"], "unheard": unheard, "cost": cost, **measured}
