"""
A trainer and an evaluator are killed at random moments, again and again: nothing is lost.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import killing
import pytest
from killing import Place
from observing import linux

MISSED = re.compile(": missed, it was finished, |: [0-9]+ more were missed; ")
MANY = 200
# How often each of the two is killed, in each test: on every Python, and on one.
KILLS = pytest.mark.parametrize("kills", [10, pytest.param(MANY, marks=pytest.mark.thorough)])
SECONDS = 400.0  # only a failure takes so long


def play(
    base: Path, seed: int, mode: str, backend: str, kills: int, *, deletes: bool = False
) -> Place:
    """
    Kill them, start them again, and in the end let them finish.
    """
    options = {"seed": seed, "mode": mode, "backend": backend, "deletes": deletes, "kills": kills}
    command = [sys.executable, "-W", "error", killing.__file__, str(base), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    said = [line for line in done.stderr.splitlines() if not MISSED.search(line)]
    assert ([], 0) == (said, done.returncode)
    return Place(base)


def check(place: Place, kills: int, *, deletes: bool = False) -> None:
    """
    What every evaluator has promised.
    """
    log = list(place.read(place.log))
    names = {verb: [line.name for line in log if line.verb == verb] for verb in VERBS}
    states = place.states()
    committed = {line.name for line in place.read(place.commits)}
    missed = {name for name, state in states.items() if state == "missed"}

    assert [] == names["error"]
    assert [] == names["unfinished"]
    assert set(names["delivered"]) <= committed
    came = set(names["evaluated"]) | set(names["gone"])
    assert set() == committed - came - missed
    assert deletes or not (missed or names["gone"])
    assert {"done", "missed"} >= set(states.values())
    done = set[str]()
    for line in log:
        assert line.verb != "delivered" or line.name not in done
        if line.verb == "done":
            done.add(line.name)
    # Else nothing was proven. A few kills may all come at moments at which they change nothing.
    assert kills < MANY or len(committed) > kills / 2
    assert kills < MANY or any(number > 1 for number in Counter(names["delivered"]).values())


VERBS = ("delivered", "evaluated", "gone", "unfinished", "done", "error")


@linux
@pytest.mark.parametrize(
    ("mode", "backend"), [("next", "asyncio"), ("explicit", "trio"), ("for_each", "asyncio")]
)
@KILLS
def test_killed_again_and_again(tmp_path: Path, mode: str, backend: str, kills: int) -> None:
    """
    All that the trainer committed was evaluated, and nothing again that was done before a kill.
    """
    seed = random.randrange(1 << 32)
    print("seed:", seed)  # shown if it fails
    check(play(tmp_path, seed, mode, backend, kills), kills)


@linux
@pytest.mark.parametrize("mode", ["next", "for_each"])
@KILLS
def test_killed_while_checkpoints_are_deleted(tmp_path: Path, mode: str, kills: int) -> None:
    """
    What was seen and is deleted before its turn is reported, by whoever is alive then.
    """
    seed = random.randrange(1 << 32)
    print("seed:", seed)
    check(play(tmp_path, seed, mode, "trio", kills, deletes=True), kills, deletes=True)
