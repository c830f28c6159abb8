"""
How long `import ckptstream` and `ckptstream --help` take: whole processes, from their start to
their end, in turns.

Byte code is written before, in a directory of this benchmark's own, whatever the environment says:
to compile all of it takes longer than to import it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

from _common import MILLISECOND, show_goal, show_machine, show_table, spread

_HELP = "ckptstream --help"
_PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "import asyncio": ["-c", "import asyncio"],
    "import anyio": ["-c", "import anyio"],
    "import ckptstream": ["-c", "import ckptstream"],
    _HELP: ["-m", "ckptstream", "--help"],
}
_LIMIT = 30 * MILLISECOND
_HELP_LIMIT = 200 * MILLISECOND


def _environment(byte_code: str) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": byte_code}


def _seconds(program: list[str], env: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *program], check=True, stdout=subprocess.DEVNULL, env=env)
    return time.perf_counter() - began


def _measure(rounds: int, env: Mapping[str, str]) -> dict[str, list[float]]:
    for program in _PROGRAMS.values():
        _seconds(program, env)  # Writes the byte code, and fills the page cache.
    times: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    for _ in range(rounds):
        for name, program in _PROGRAMS.items():
            times[name].append(_seconds(program, env))
    return times


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="time that importing ckptstream takes")
    parser.add_argument("--rounds", type=int, default=30)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as byte_code:
        times = _measure(rounds, _environment(byte_code))
    more = {
        name: spread(own - bare for own, bare in zip(values, times["import anyio"], strict=True))
        for name, values in times.items()
    }
    rows = [
        [name, spread(values).show(MILLISECOND, 1), more[name].show(MILLISECOND, 1)]
        for name, values in times.items()
    ]
    show_machine("anyio", "inotify_simple", "click")
    what = f"A whole process: median over {rounds} rounds (min-max)"
    show_table(what, ["runs", "ms", "ms more than import anyio"], rows)
    extra = more["import ckptstream"]
    goal = "import ckptstream: at most 30 ms more than import anyio"
    show_goal(goal, f"{extra.show(MILLISECOND, 1)} ms", extra.median <= _LIMIT)
    whole = spread(times[_HELP])
    goal = f"{_HELP}: at most 200 ms"
    show_goal(goal, f"{whole.show(MILLISECOND, 1)} ms", whole.median <= _HELP_LIMIT)


if __name__ == "__main__":
    main()
