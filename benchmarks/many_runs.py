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
import tempfile

from _common import MILLISECOND, show_machine
from _many_bench import LEAST_IDLE, MANY_OLD, Bench, Results
from _many_peers import ASKING, ASLEEP, CONTENDERS, EACH, FLOOR, ONE, POLLING, SCANDIR
from _many_tables import Goal, show
from _many_trees import Trees

_MICROSECOND, _KB, _PERCENT = 1e-6, 1024, 0.01

_BACKENDS = ("asyncio", "uvloop", "trio")


def _show_idle(what: str, results: Results) -> None:
    show(
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
    show(
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
    results = bench.measure(bench.titles(FLOOR, ONE, EACH), bench.sizes, bench.start, MANY_OLD)
    what = f"First look at runs with {MANY_OLD} old checkpoints: median over the rounds (min-max)"
    show(what, ["s"], results, lambda result: [result["seconds"].show()])
    for title in bench.titles(ONE, EACH):
        Goal("at most 1 s", "seconds", 1, 1, 3).show(results, title)


def _growth(bench: Bench) -> None:
    sizes = sorted({10, *bench.sizes})
    results = bench.measure(bench.titles(FLOOR, ONE, EACH), sizes, bench.growth)
    show(
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
    parser.add_argument("--idle-seconds", type=float, default=LEAST_IDLE)
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
