"""
What it takes to follow many runs in one process.

Every contender is measured in a process of its own; this one only makes the runs, starts the
others and prints the tables. The checkpoints are directories of hard links to some that
`ckptstream.testing.save` wrote, Hugging Face's for all but the peers that know only their own.

- idle: nothing happens, for long enough that ckptstream, which looks every two minutes without
  being told, does so twice; the others do the same every second, or nothing. Memory is what the
  process has at the end more than just before, after a first look at another run, so that imports
  do not count; threads are the most at any moment.
- polling: the same, where no event can be trusted.
- burst: each run commits one checkpoint within a second, by `os.rename` from outside of the run,
  in a second process. The clock, CLOCK_MONOTONIC, which both share, starts right before it and
  stops at the first statement in the body of the loop. A task that sleeps 1 ms again and again
  shows how long the event loop was not free, at most: by how much it overslept. Part of that is
  the timer's own millisecond, and time in line for a processor that others had.
  Unheard is what has not come half a minute later.
- start: the first look at runs with 20 old checkpoints, from the call of `follow` to the end of
  the look that ended last. `status()` tells: it is asked so rarely that it takes less than 5 %
  of the time, but says when that look was.
- growth: single commits to runs at random; processor time and latency of each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import _many_peers
from _common import MILLISECOND, Spread, quantile, show_goal, show_machine, show_table, spread
from _many_peers import ASKING, ASLEEP, CONTENDERS, EACH, FLOOR, ONE, POLLING, SCANDIR

from ckptstream.testing import save

_OLD, _MANY_OLD = 3, 20  # checkpoints that each run holds
_LEAST_IDLE = 250.0  # seconds: two safety looks
_STEADY = 60.0  # seconds: enough where every second is the same
_EVENTS, _EVENTS_SECONDS = 100, 4.0
_MICROSECOND, _KB, _PERCENT = 1e-6, 1024, 0.01

_BACKENDS = ("asyncio", "uvloop", "trio")

Result = Mapping[str, Any]
Results = dict[tuple[str, int], Result]
Answer = tuple[Result, Mapping[tuple[str, int], float]]  # with the time of each commit


class Move(NamedTuple):
    """A commit to come: `os.rename(source, target)` finishes the run's checkpoint *step*."""

    source: str
    target: str
    run: str
    step: int


class Trees:
    """Runs on disk, made once and put in order after each contender."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._staging = f"{root}/staging"
        self._made = dict[str, int]()

    def grow(self, kind: str, old: int, count: int) -> str:
        """A directory with at least so many runs, `00000` and so on, of *old* checkpoints each."""
        root = f"{self._root}/{kind}-{old}"
        made = self._made.get(root, 0)
        if made < count:
            for number in range(made, count):
                self._make(f"{root}/{number:05}", kind, old)
            self._made[root] = count
            os.sync()  # so that nothing is written back while something is measured
        return root

    def prepare(self, kind: str, count: int, rounds: Sequence[int]) -> list[list[Move]]:
        """Commits to come to *count* runs: as many as each number says, spread over the runs."""
        root, steps = f"{self._root}/{kind}-{_OLD}", [_OLD] * count
        os.mkdir(self._staging)
        moves = list[list[Move]]()
        for commits in rounds:
            order = itertools.cycle(random.sample(range(count), count))
            moves.append([])
            for number in itertools.islice(order, commits):
                steps[number] += 1
                run, step = f"{root}/{number:05}", steps[number]
                source = f"{self._staging}/{number}-{step}"
                last = self._link(kind, step, run, source)
                moves[-1].append(Move(source, f"{run}/{last}", run, step))
        os.sync()
        return moves

    def restore(self, kind: str, moves: Sequence[Sequence[Move]]) -> None:
        """Put the runs in order again."""
        for run in {move.run for batch in moves for move in batch}:
            shutil.rmtree(run)
            self._make(run, kind, _OLD)
        shutil.rmtree(self._staging)
        os.sync()

    def _make(self, run: str, kind: str, old: int) -> None:
        os.makedirs(run)
        for step in range(1, old + 1):
            last = self._link(kind, step, run, f"{run}/last")
            os.replace(f"{run}/last", f"{run}/{last}")

    def _link(self, kind: str, step: int, run: str, last: str) -> str:
        """Link a checkpoint into a run, but what finishes it to *last*; returns its name."""
        model = f"{self._root}/models/{kind}-{step}"
        if not os.path.exists(model):
            save(model, step, kind)
        *names, finishing = sorted(os.listdir(model), reverse=True)  # TensorFlow's "checkpoint"
        for name in names:
            _copy(f"{model}/{name}", f"{run}/{name}")
        _copy(f"{model}/{finishing}", last)
        return finishing


def _copy(source: str, target: str) -> None:
    if not os.path.isdir(source):
        os.link(source, target)
        return
    os.mkdir(target)
    for name in os.listdir(source):
        _copy(f"{source}/{name}", f"{target}/{name}")


class Child:
    """A process that measures, or commits."""

    def __init__(self, **spec: object) -> None:
        self._errors = os.memfd_create("errors")
        self._process = subprocess.Popen(
            [sys.executable, _many_peers.__file__, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._errors)

    def tell(self, **what: object) -> Result:
        """Say something, and hear the answer."""
        assert self._process.stdin is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)
        return self.hear(60)

    def hear(self, timeout: float) -> Result:
        """The next line, and the last of its errors; or why there is none within *timeout*."""
        assert self._process.stdout is not None
        timer = threading.Timer(timeout, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        errors = os.pread(self._errors, 2**20, 0).decode(errors="replace").strip()
        said = errors.rpartition("\n")[2]
        answer: dict[str, Any] = {"trouble": f"has ended: {said}"} if not line else json.loads(line)
        return {"said": said, **answer}


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
        old: int = _OLD,
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

    def child(self, measure: str, title: str, size: int, old: int = _OLD, **spec: object) -> Child:
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
            result = child.hear(seconds + 300)
        short = safety and seconds < _LEAST_IDLE
        note = f"{seconds:g} s" + (" only: not two safety looks" if short else "")
        return {"note": note, **result}

    def start(self, title: str, size: int) -> Result:
        """The first look."""
        seconds, result = list[float](), dict[str, Any]()
        for _ in range(self.options.rounds):
            with self.child("start", title, size, _MANY_OLD) as child:
                result = {**child.hear(300)}
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
                    ready = child.hear(300)
                    if "trouble" in ready:
                        return ready
                    times = other.tell(moves=batch, seconds=seconds)["times"]
                    answer = child.hear(seconds + 2 * _many_peers.PATIENCE)
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


# The tables.


def _show(
    what: str, headers: Sequence[str], results: Results, cells: Callable[[Result], list[str]]
) -> None:
    rows = list[list[str]]()
    for (title, size), result in results.items():
        line = [""] * len(headers) if "trouble" in result else cells(result)
        note = result.get("trouble", result.get("note", ""))
        if title.startswith("ckptstream") and result["said"] not in note:
            note += f" (it says: {result['said']})"
        rows.append([title, f"{size:,}", *line, note])
    show_table(what, ["follows with", "runs", *headers, ""], rows)


class Goal(NamedTuple):
    """At most *limit*, in *unit*, of one of the results' values."""

    words: str
    name: str
    limit: float
    unit: float
    digits: int = 1

    def show(self, results: Results, title: str, size: int = 1_000) -> None:
        """Print it."""
        found, shown, reached = results.get((title, size), {}).get(self.name), "", None
        if isinstance(found, Spread):
            shown = found.show(self.unit, self.digits)
            reached = found.median <= self.limit * self.unit
        elif found is not None:
            shown = f"{found / self.unit:.{self.digits}f}"
            reached = found <= self.limit * self.unit
        show_goal(f"{title}, {size:,} runs: {self.words}", shown, reached)


def _show_idle(what: str, results: Results) -> None:
    _show(
        what,
        ["% of a core", "threads", "fds", "inotify", "KB per run"],
        results,
        lambda result: [
            f"{result['cpu'] / _PERCENT:.3f}",
            *(f"{result[name]:,}" for name in ("threads", "descriptors", "inotify")),
            f"{result['memory'] / _KB:.1f}",
        ],
    )


def _idle(bench: Bench) -> None:
    titles = bench.titles(*(set(CONTENDERS) - {SCANDIR, POLLING}))
    results = bench.measure(titles, bench.sizes, bench.idle, parallel=bench.options.parallel)
    _show_idle("Idle", results)
    for title in bench.titles(ONE, EACH):
        memory = 8 if title.startswith(ONE) else 16
        Goal("at most 0.2 % of a core", "cpu", 0.2, _PERCENT, 3).show(results, title)
        Goal("at most 4 worker threads", "threads", 4, 1, 0).show(results, title)
        Goal("at most 1 inotify descriptor", "inotify", 1, 1, 0).show(results, title)
        Goal(f"at most {memory} KB per run", "memory", memory, _KB).show(results, title)
        thousand = results.get((title, 1_000), {}).get("cpu")
        if thousand is not None:
            limit = 10 * thousand / _PERCENT
            words = f"at most 10 times the share of 1,000 ({limit:.3f} %)"
            Goal(words, "cpu", limit, _PERCENT, 3).show(results, title, 10_000)


def _polling(bench: Bench) -> None:
    titles = bench.titles(SCANDIR, POLLING, ASKING)
    results = bench.measure(titles, bench.sizes, bench.idle, parallel=bench.options.parallel)
    _show_idle("Polling every second, idle", results)
    for title in bench.titles(POLLING):
        Goal("at most 5 % of a core", "cpu", 5, _PERCENT, 2).show(results, title)


def _burst(bench: Bench) -> None:
    titles = bench.titles(*(set(CONTENDERS) - {ASLEEP}))
    results = bench.measure(titles, bench.sizes, bench.burst)
    names = ("p50", "p99", "p100", "late", "queued")
    _show(
        "Each run commits within a second: median over the rounds (min-max)",
        ["unheard", "p50 ms", "p99 ms", "max ms", "loop not free ms", "of it in line ms"],
        results,
        lambda result: [
            f"{result['unheard']:,}",
            *(result[name].show(MILLISECOND, 1) for name in names),
        ],
    )
    for title in bench.titles(ONE, EACH):
        Goal("all delivered, none unheard of", "unheard", 0, 1, 0).show(results, title)
        Goal("p99 at most 10 ms", "p99", 10, MILLISECOND).show(results, title)
        Goal("loop not free for at most 10 ms", "late", 10, MILLISECOND).show(results, title)


def _start(bench: Bench) -> None:
    results = bench.measure(bench.titles(FLOOR, ONE, EACH), bench.sizes, bench.start, _MANY_OLD)
    what = f"First look at runs with {_MANY_OLD} old checkpoints: median over the rounds (min-max)"
    _show(what, ["s"], results, lambda result: [result["seconds"].show()])
    for title in bench.titles(ONE, EACH):
        Goal("at most 1 s", "seconds", 1, 1, 3).show(results, title)


def _growth(bench: Bench) -> None:
    sizes = sorted({10, *bench.sizes})
    results = bench.measure(bench.titles(FLOOR, ONE, EACH), sizes, bench.growth)
    _show(
        "One commit now and then: median over the rounds (min-max)",
        ["processor us an event", "p50 ms", "p99 ms"],
        results,
        lambda result: [
            result["cost"].show(_MICROSECOND, 0),
            *(result[name].show(MILLISECOND, 2) for name in ("p50", "p99")),
        ],
    )
    for title in bench.titles(ONE, EACH):
        few = results[title, 10].get("cost")
        if few is not None:
            limit = 1.5 * few.median / _MICROSECOND
            words = f"at most 1.5 times the processor time of 10 ({limit:.0f} us)"
            Goal(words, "cost", limit, _MICROSECOND, 0).show(results, title, sizes[-1])


_SECTIONS = {
    "idle": _idle,
    "polling": _polling,
    "burst": _burst,
    "start": _start,
    "growth": _growth,
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description="what it takes to follow many runs")
    parser.add_argument("--only", type=_words, default=[*_SECTIONS], help=",".join(_SECTIONS))
    parser.add_argument("--sizes", type=_numbers, default=[100, 1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-seconds", type=float, default=_LEAST_IDLE)
    parser.add_argument("--parallel", type=int, default=1, help="processes that idle at once")
    parser.add_argument(
        "--backends",
        type=_words,
        default=["asyncio"],
        help=f"of {','.join(_BACKENDS)}; the peers need asyncio",
    )
    parser.add_argument("--follows", default="", help="only contenders with this in their name")
    options = parser.parse_args()
    unknown = {*options.only} - {*_SECTIONS} or {*options.backends} - {*_BACKENDS}
    if unknown:
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    needs = [contender.needs.replace(".", "-") for contender in CONTENDERS.values()]
    show_machine(*dict.fromkeys(needs), "inotify_simple", "tensorflow-cpu")
    with tempfile.TemporaryDirectory(prefix="ckptstream-many-") as root:
        bench = Bench(options, Trees(root))
        for name in options.only:
            _SECTIONS[name](bench)


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return sorted(int(number) for number in text.split(","))


if __name__ == "__main__":
    main()
