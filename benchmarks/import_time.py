"""How long `import ckptstream` takes: whole processes, from their start to their end, in turns."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from _common import MILLISECOND, show_goal, show_machine, show_table, spread

_CODES = {
    "python -c pass": "pass",
    "import asyncio": "import asyncio",
    "import anyio": "import anyio",
    "import ckptstream": "import ckptstream",
}
_LIMIT = 30 * MILLISECOND


def _seconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def _measure(rounds: int) -> dict[str, list[float]]:
    for code in _CODES.values():
        _seconds(code)  # Writes the byte code, and fills the page cache.
    times: dict[str, list[float]] = {name: [] for name in _CODES}
    for _ in range(rounds):
        for name, code in _CODES.items():
            times[name].append(_seconds(code))
    return times


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="time that importing ckptstream takes")
    parser.add_argument("--rounds", type=int, default=30)
    rounds: int = parser.parse_args().rounds
    times = _measure(rounds)
    more = {
        name: spread(own - bare for own, bare in zip(values, times["import anyio"], strict=True))
        for name, values in times.items()
    }
    rows = [
        [name, spread(values).show(MILLISECOND, 1), more[name].show(MILLISECOND, 1)]
        for name, values in times.items()
    ]
    show_machine("anyio", "inotify_simple")
    what = f"A whole process: median over {rounds} rounds (min-max)"
    show_table(what, ["runs", "ms", "ms more than import anyio"], rows)
    extra = more["import ckptstream"]
    goal = "import ckptstream: at most 30 ms more than import anyio"
    show_goal(goal, f"{extra.show(MILLISECOND, 1)} ms", extra.median <= _LIMIT)


if __name__ == "__main__":
    main()
