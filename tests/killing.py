"""
A trainer and an evaluator, each a real process, and who kills them: run as a program, since it
forks. Imported, it only reads what they have left.

What they did is written down with one `os.write` each: a killed process loses none of that.
"""

from __future__ import annotations

import functools
import json
import os
import random
import select
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import anyio

import ckptstream
from ckptstream import Checkpoint
from ckptstream.testing import apply, operations

LAYOUT = "step_{step}/DONE"
BEGINS = 20.0  # seconds; only a failure takes so long
MODES = ("next", "explicit", "for_each")


class Line(NamedTuple):
    """
    One thing that a process did.
    """

    verb: str
    name: str


class Place:
    """
    Where everything lies.
    """

    def __init__(self, base: Path) -> None:
        self.run = base / "run"
        self.cursor = base / "evals.db"
        self.commits = base / "commits"
        self.log = base / "log"

    def append(self, ledger: Path, verb: str, name: str) -> None:
        descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{verb} {name}\n".encode())
        os.close(descriptor)

    def read(self, ledger: Path) -> Iterator[Line]:
        for line in ledger.read_text().splitlines() if ledger.exists() else ():
            yield Line(*line.split(" ", 1))

    def states(self) -> dict[str, str]:
        """
        What the cursor says of each name. It is read in a copy: who opens it would mend it.
        """
        with tempfile.TemporaryDirectory() as copies:
            for suffix in ("", "-wal"):
                if os.path.exists(f"{self.cursor}{suffix}"):
                    shutil.copy(f"{self.cursor}{suffix}", f"{copies}/evals.db{suffix}")
            connection = sqlite3.connect(f"{copies}/evals.db")
            try:
                assert ("ok",) == connection.execute("PRAGMA integrity_check").fetchone()
                tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
                query = "SELECT name, state FROM checkpoints WHERE generation != ''"
                return dict(connection.execute(query)) if tables else {}
            finally:
                connection.close()


# The trainer.


def train(place: Place, orders: int, tell: Callable[[], None]) -> None:
    """
    Save one more, or delete one, as often as it is told to.
    """
    mend(place)
    while order := os.read(orders, 1):
        if order == b"+":
            save(place, tell)
        else:
            names = iter(lambda: os.read(orders, 1), b"\n")
            delete(place.run / b"".join(names).decode(), tell)


def mend(place: Place) -> None:
    """
    As a trainer that starts again: what is not finished goes, what is and was not told is told.
    """
    told = {line.name for line in place.read(place.commits)}
    for path in place.run.iterdir():
        if not (path / "DONE").exists():
            shutil.rmtree(path)
        elif path.name not in told:
            place.append(place.commits, "committed", path.name)


def save(place: Place, tell: Callable[[], None]) -> None:
    steps = [int(line.name.removeprefix("step_")) for line in place.read(place.commits)]
    step = max(steps, default=0) + 1
    for operation in operations(step, LAYOUT, shard_bytes=512):
        apply(operation, place.run)
        tell()
    place.append(place.commits, "committed", f"step_{step}")


def delete(path: Path, tell: Callable[[], None]) -> None:
    (path / "DONE").unlink(missing_ok=True)
    tell()
    shutil.rmtree(path, ignore_errors=True)
    tell()


# The evaluator.


class Evaluator:
    def __init__(self, place: Place, tell: Callable[[], None], timeout: float | None) -> None:
        self._place = place
        self._tell = tell
        self._timeout = timeout

    def say(self, verb: str, checkpoint: Checkpoint) -> None:
        self._place.append(self._place.log, verb, os.path.basename(checkpoint.path))
        self._tell()

    def evaluate(self, checkpoint: Checkpoint) -> None:
        self.say("delivered", checkpoint)
        try:
            weights = Path(checkpoint.path, "model.safetensors").read_bytes()
            marked = Path(checkpoint.path, "DONE").exists()
        except FileNotFoundError:
            self.say("gone", checkpoint)
            return
        whole = weights.endswith((f"{checkpoint.step} ".encode() * 512)[:512])
        if not marked:
            self.say("gone", checkpoint)
        elif not whole:
            self.say("unfinished", checkpoint)
        else:
            self.say("evaluated", checkpoint)

    async def follow(self, mode: str) -> None:
        async with ckptstream.follow(
            self._place.run,
            cursor=self._place.cursor,
            done="explicit" if mode == "explicit" else "next",
            layout=LAYOUT,
            timeout=self._timeout,
        ) as stream:
            self._tell()
            if mode == "for_each":
                await stream.for_each(self._evaluate_slowly, jobs=3)
                return
            before: Checkpoint | None = None
            async for checkpoint in stream:
                if before is not None:
                    self.say("done", before)
                self.evaluate(checkpoint)
                before = checkpoint if mode == "next" else None
                if mode == "explicit":
                    await stream.done(checkpoint)
                    self.say("done", checkpoint)

    async def _evaluate_slowly(self, checkpoint: Checkpoint) -> None:
        await anyio.sleep(0.001)
        self.evaluate(checkpoint)


# Who kills them.


class Child:
    """
    A forked process, which tells of each thing it does.
    """

    def __init__(self, place: Place, work: Callable[[Callable[[], None]], None]) -> None:
        self._told, tell = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._run(place, functools.partial(work, lambda: void(os.write(tell, b"."))))
        os.close(tell)

    def _run(self, place: Place, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:
            place.append(place.log, "error", repr(traceback.format_exc()))
        finally:
            os._exit(0)

    def wait_for(self, number: int, seconds: float) -> None:
        """
        Until it has done so many things, or for so long; or it has ended.
        """
        deadline = time.monotonic() + seconds
        while (
            number > 0
            and select.select([self._told], [], [], max(0.0, deadline - time.monotonic()))[0]
        ):
            told = os.read(self._told, number)
            number = number - len(told) if told else 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """
        Wait until it is gone.
        """
        os.waitpid(self.pid, 0)
        os.close(self._told)


def void(value: object) -> None:
    pass


class Killer:
    def __init__(self, base: Path, seed: int, mode: str, backend: str, deletes: bool) -> None:
        self.place = Place(base)
        self.place.run.mkdir()
        self._random = random.Random(seed)
        self._mode = mode
        self._backend = backend
        self._deletes = deletes
        self._orders = -1

    def evaluator(self, timeout: float | None = None) -> Child:
        def work(tell: Callable[[], None]) -> None:
            evaluator = Evaluator(self.place, tell, timeout)
            anyio.run(evaluator.follow, self._mode, backend=self._backend)

        return Child(self.place, work)

    def trainer(self) -> Child:
        orders, self._orders = os.pipe()

        def work(tell: Callable[[], None]) -> None:
            os.close(self._orders)
            train(self.place, orders, tell)

        child = Child(self.place, work)
        os.close(orders)
        return child

    def end_trainer(self, trainer: Child, *, kill: bool = True) -> None:
        os.close(self._orders)
        if kill:
            trainer.kill()
        else:
            trainer.end()

    def wait_a_while(self, child: Child, *, tells: bool = False) -> None:
        """
        For some things that it does and a moment more: at any point of any of them.

        *tells*: That it has begun, at least; on a busy machine this takes a while.
        """
        chance = self._random
        number = chance.choice([0, 1, 2, 3, 5, 8])
        if number and tells:
            child.wait_for(1, BEGINS)
            number -= 1
        child.wait_for(number, 0.2)
        time.sleep(chance.choice([0, chance.expovariate(2000), chance.expovariate(200)]))

    def check_done(self) -> None:
        """
        Write down what the cursor says is done: it must never come again.
        """
        for name, state in self.place.states().items():
            if state == "done":
                self.place.append(self.place.log, "done", name)

    def order(self, awaited: list[str]) -> None:
        """
        Some more checkpoints, and the end of some that the cursor knows.
        """
        os.write(self._orders, b"+" * self._random.choice([0, 1, 1, 2, 3]))
        for name in self._random.sample(awaited, min(len(awaited), self._random.choice([0, 1, 2]))):
            os.write(self._orders, f"-{name}\n".encode())

    def play(self, kills: int) -> None:
        trainer, evaluator = self.trainer(), self.evaluator()
        for number in range(kills):
            awaited = list[str]()
            if self._deletes and number % 2:
                awaited = [n for n, state in self.place.states().items() if state == "seen"]
            self.order(awaited)
            self.wait_a_while(evaluator, tells=True)
            evaluator.kill()
            if number % 5 == 0:
                self.check_done()
            evaluator = self.evaluator()
            self.wait_a_while(trainer)
            self.end_trainer(trainer)
            trainer = self.trainer()
        evaluator.kill()
        self.check_done()
        self.end_trainer(trainer, kill=False)
        self.evaluator(timeout=0).end()


def main() -> None:
    base, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    kills = options.pop("kills")
    Killer(base, **options).play(kills)


if __name__ == "__main__":
    main()
