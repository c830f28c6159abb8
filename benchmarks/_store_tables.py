"""The tables and the goals that `object_store.py` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from _common import MILLISECOND, Spread, quantile, ratio, show_goal, show_table, spread
from _store_bench import First, Key, Result, Results, Round
from _store_clients import OURS, P50, S3FS, S3FS_SELDOM

_HOUR, _MB, _KB = 3_600.0, 1e6, 1e3
_KINDS = ("list", "HEAD", "GET")
# The goals of the project; the last one, "right after", had no number.
_SHARE, _CPU, _WOKEN = 1 / 20, 1 / 5, 1.0


def _hourly(each: Round, number: float) -> float:
    return number / each.seconds * _HOUR


def _requests(each: Round) -> float:
    return _hourly(each, each.requests)


def _cpu(each: Round) -> float:
    return _hourly(each, each.cpu)


def _cpu_of_one(each: Round) -> float:
    return each.cpu / each.requests if each.requests else 0.0


def _bytes(each: Round) -> float:
    return _hourly(each, each.counts.get("bytes", 0))


def _show(values: Sequence[float], unit: float = 1.0, digits: int = 0) -> str:
    """The median and the spread of what the rounds have; nothing if they have none."""
    if not values:
        return ""
    middle, low, high = (f"{value / unit:,.{digits}f}" for value in spread(values))
    return middle if low == high else f"{middle} ({low}-{high})"


def _of(
    rounds: Sequence[Round], value: Callable[[Round], float], unit: float = 1.0, digits: int = 0
) -> str:
    return _show([value(each) for each in rounds], unit, digits)


def _table(
    what: str,
    headers: Sequence[str],
    results: Results,
    cells: Callable[[Result], list[str]],
    more: Sequence[Sequence[str]] = (),
) -> None:
    rows = [list(row) for row in more]
    for (title, size), result in results.items():
        line = [""] * len(headers) if result.trouble else cells(result)
        rows.append([title, f"{size:,}", *line, "not measured" if result.trouble else ""])
    show_table(what, ["follows with", "runs", *headers, ""], rows)


def show(results: Results) -> None:
    """Print all tables, and whether the goals are reached."""
    for (title, size), result in results.items():
        if result.trouble:
            print(f"{title}, {size:,} runs: not measured: {result.trouble}")
    _show_hour(results)
    _show_latency(results)
    _show_first(results)
    _show_ratios(results)
    _show_own_count(results)
    sizes = {size for _, size in results}
    for title, size in results:
        key = Key(title, size)
        if title.startswith(OURS) and size == max(sizes) and not results[key].trouble:
            _show_goals(results, key)


def _show_hour(results: Results) -> None:
    kinds = [f"{kind}s" for kind in _KINDS]
    headers = ["requests", *kinds, "CPU s", "CPU ms a request", "MB", "s from look to look"]
    each = list[list[str]]()
    for size in sorted({size for _, size in results}):
        blank = [""] * len(headers)
        each.append(["a list per run and second", f"{size:,}", f"{size * _HOUR:,.0f}", *blank])

    def cells(result: Result) -> list[str]:
        rounds = result.rounds
        kinds = ([_hourly(one, one.counts.get(kind, 0)) for one in rounds] for kind in _KINDS)
        looks = [one.seconds / one.looks for one in rounds if one.looks]
        return [
            _of(rounds, _requests),
            *map(_show, kinds),
            _of(rounds, _cpu, 1, 1),
            _of([one for one in rounds if one.requests], _cpu_of_one, MILLISECOND, 2),
            _of(rounds, _bytes, _MB, 1),
            _show(looks, 1, 1),
        ]

    longest = max((one.seconds for each in results.values() for one in each.rounds), default=0)
    what = f"What an hour takes: median over the rounds, of up to {longest:.0f} s (min-max)"
    _table(what, headers, results, cells, each)


def _show_latency(results: Results) -> None:
    def cells(result: Result) -> list[str]:
        rounds = result.rounds
        heard = [one.latencies for one in rounds if one.latencies]
        woken = [one.wakes for one in rounds if one.wakes]
        asked = [float(number) for one in rounds for number in one.wake_requests]
        return [
            f"{sum(map(len, heard)):,}",
            f"{sum(one.unheard for one in rounds):,}",
            *(_show([quantile(one, share) for one in heard], 1, 2) for share in (0.5, 0.99)),
            _show([quantile(one, 0.5) for one in woken], MILLISECOND),
            _show(asked),
        ]

    headers = ["heard", "unheard", "p50 s", "p99 s", "after wake(), p50 ms", "requests a wake"]
    _table("From the last PUT to the body of the loop", headers, results, cells)


def _show_first(results: Results) -> None:
    def column(value: Callable[[First], float], unit: float = 1.0, digits: int = 0) -> Column:
        return lambda result: _show([value(first) for first in result.firsts], unit, digits)

    columns = {
        "requests": column(lambda first: first.requests),
        "s": column(lambda first: first.seconds, 1, 2),
        "CPU s": column(lambda first: first.cpu, 1, 2),
        "KB": column(lambda first: first.bytes, _KB),
    }
    what = "The first look, with the start of the process"
    _table(what, [*columns], results, lambda one: [cell(one) for cell in columns.values()])


Column = Callable[[Result], str]


def _compared(
    results: Results, key: Key, value: Callable[[Round], float], other: str = S3FS
) -> Spread | None:
    """What a contender takes as a share of what another takes, each round with the same round."""
    theirs = results.get(Key(other, key.size), Result()).rounds
    ours = results[key].rounds
    floor = [value(each) for each in theirs]
    if not ours or len(ours) != len(theirs) or 0 in floor:  # 0: in so short a round it did not look
        return None
    return ratio([value(each) for each in ours], floor)


def _show_ratios(results: Results) -> None:
    values = {"requests": _requests, "CPU": _cpu, "CPU a request": _cpu_of_one, "bytes": _bytes}
    rows = list[list[str]]()
    for key in results:
        if key.title != S3FS:
            shares = [_compared(results, key, value) for value in values.values()]
            cells = ["" if share is None else share.show(1, 2) for share in shares]
            rows.append([key.title, f"{key.size:,}", *cells])
    show_table(f"As a share of what {S3FS!r} takes", ["follows with", "runs", *values], rows)


def _show_own_count(results: Results) -> None:
    for (title, size), result in results.items():
        for own, served in result.counted:
            print(f"{title}, {size:,} runs: it counted {own:,} requests, the server {served:,}")


def _show_goals(results: Results, key: Key) -> None:
    rounds, name = results[key].rounds, f"{key.title}, {key.size:,} runs"

    def goal(words: str, values: Sequence[float], limit: float, digits: int) -> None:
        reached = spread(values).median <= limit if values else None
        show_goal(f"{name}: {words}", _show(values, 1, digits), reached)

    most = key.size * _HOUR * _SHARE
    words = f"at most 1/20 of a list per run and second, {most:,.0f} requests an hour"
    goal(words, [_requests(each) for each in rounds], most, 0)
    latencies = [quantile(each.latencies, 0.5) for each in rounds if each.latencies]
    goal(f"p50 at most {P50:g} s", latencies, P50, 2)
    woken = [quantile(each.wakes, 0.5) for each in rounds if each.wakes]
    goal(f"p50 at most {_WOKEN:g} s after wake()", woken, _WOKEN, 3)
    for other in (S3FS, S3FS_SELDOM):
        share = _compared(results, key, _cpu, other)
        words = f"at most 1/5 of the CPU of {other!r}"
        shown = "" if share is None else share.show(1, 3)
        show_goal(f"{name}: {words}", shown, None if share is None else share.median <= _CPU)
