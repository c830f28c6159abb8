"""What the benchmarks share: numbers over rounds, one table, the machine they were taken on."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import math
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import NamedTuple

MILLISECOND = 1e-3


class Spread(NamedTuple):
    """The median over the rounds, and the lowest and highest round."""

    median: float
    low: float
    high: float

    def show(self, unit: float = 1.0, digits: int = 3) -> str:
        """Such as `0.712 (0.698-0.745)`, in *unit*."""
        middle, low, high = (f"{value / unit:.{digits}f}" for value in self)
        return f"{middle} ({low}-{high})"


def spread(rounds: Iterable[float]) -> Spread:
    """One number of each round."""
    values = list(rounds)
    return Spread(statistics.median(values), min(values), max(values))


def medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    """The median of each round."""
    return [statistics.median(values) for values in rounds]


def ratio(rounds: Sequence[float], floor: Sequence[float]) -> Spread:
    """How many times the floor, each round compared with the same round of the floor."""
    return spread(ours / theirs for ours, theirs in zip(rounds, floor, strict=True))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of *values* that at least this *share* of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def is_installed(module: str) -> bool:
    """Whether a module can be imported here; it is not."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False


def show_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, the others to the right."""
    widths = [max(len(line[column]) for line in [headers, *rows]) for column in range(len(headers))]
    print(f"\n{title}\n")
    for line in [headers, ["-" * width for width in widths], *rows]:
        cells = [f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)]
        cells[0] = f"{line[0]:<{widths[0]}}"
        print("  ".join(cells).rstrip())
    print()


def show_goal(goal: str, measured: str, reached: bool | None) -> None:
    """Print one goal below the table; None: what it compares with was not measured."""
    answer = {True: "reached", False: "NOT REACHED", None: "not measured"}[reached]
    print(f"goal: {goal}: {measured} -> {answer}")


def show_machine(*distributions: str) -> None:
    """Print where the numbers come from, with the versions of what was measured."""
    versions = (f"{name} {version}" for name, version in _versions(distributions).items())
    kernel = f"{platform.system()} {platform.release()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"machine: {_processor()}, {os.cpu_count()} cores, {kernel}, {python}")
    print(f"versions: {', '.join(versions)}")


def _versions(distributions: Iterable[str]) -> Mapping[str, str]:
    found = dict[str, str]()
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # Its row says so.
    return found


def _processor() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class Usage(NamedTuple):
    """What this process has taken: bytes of memory, threads, descriptors, inotify instances."""

    resident: int
    threads: int
    descriptors: int
    inotify: int


def usage() -> Usage:
    """What this process takes now, from proc(5), after the garbage was collected."""
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    links = list[str]()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return Usage(resident, threads(), len(links), links.count("anon_inode:inotify"))


def threads() -> int:
    """How many threads this process has, those of its libraries among them."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Threads:"))
