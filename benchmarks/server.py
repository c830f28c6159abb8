"""
How long the README's server takes to answer `/runs` while its runs commit.

The server is the README's own code under uvicorn, in a process of its own, and follows as many runs
as the row says. Another process is the trainers: within one second each run commits a checkpoint as
Orbax does, by renaming `N.orbax-checkpoint-tmp` to `N`. A third one listens to `/events`, and the
next burst waits until it has heard of every checkpoint. With a hung directory there is one run
more; a stub around `os.listdir` never answers for it.

This process asks for `/runs` over one connection, at fixed moments. The clock starts at the moment
itself, also when the answer before came late, and stops when the whole answer has been read.

All servers live from the beginning to the end, and take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from _common import MILLISECOND, show_goal, show_machine, show_table, spread
from _server_processes import BURST, PATIENCE, Process, queued, run_of, until

_HUNG = "sweeps/hung/checkpoints"
_GOAL = 50 * MILLISECOND
_EVERY = 20 * MILLISECOND  # from one request to the next
_REST = 0.5  # seconds for the server to look at what was written before the burst


class Answer(NamedTuple):
    """
    One answer of `/runs`.

    Attributes:
        queued: How many of the seconds, at most, the server's main thread and the client stood in
            line for a processor: what a busy machine adds.
    """

    seconds: float
    queued: float

    @property
    def alone(self) -> float:
        """Without the time in line."""
        return max(0.0, self.seconds - self.queued)


Round = list[Answer]


class Server:
    """
    A server, those who listen to it, and the runs that it follows.

    Attributes:
        idle: The answers while nothing happens, of each round.
        busy: The same while all runs commit.
    """

    def __init__(self, root: Path, runs: int, hung: bool, loop: str) -> None:
        self.runs, self.hung = runs, hung
        self.idle = list[Round]()
        self.busy = list[Round]()
        self._home = root / f"{runs}-{hung}"
        self._step = 0
        for number in range(runs):
            (self._home / run_of(number)).mkdir(parents=True)
        if hung:
            (self._home / _HUNG).mkdir(parents=True)
        serve = ("serve", loop, _HUNG if hung else "")
        self._server = Process(*serve, log=root / f"{runs}-{hung}.log", cwd=str(self._home))
        url = self._server.address()
        log = root / f"{runs}-{hung}-listens.log"
        self._listener = Process("listen", url, str(runs), log=log)
        self._client = httpx.Client(base_url=url, timeout=PATIENCE)
        until(self._sees_all, f"the server does not see {runs} runs")

    def _sees_all(self) -> bool:
        known: dict[str, dict[str, Any]] = self._client.get("/runs").json()
        asleep = [row for row in known.values() if "does not answer" in row["waiting_for"]]
        return len(known) == self.runs + self.hung == self.runs + len(asleep)

    def close(self) -> None:
        """End its processes."""
        self._client.close()
        self._listener.close()
        self._server.close()

    def burst(self, trainers: Process) -> None:
        """Ask while every run commits."""
        self._step += 1
        what = (self._home, self.runs, self._step)
        trainers.ask("prepare", *what)
        trainers.answer()
        time.sleep(_REST)
        trainers.ask("commit", *what)
        self.busy[-1] += self._answers()
        took = float(trainers.answer())
        if took > 1.2 * BURST:
            print(f"{self.runs} commits took {took:.1f} s, not {BURST}", file=sys.stderr)
        assert self._step * self.runs == int(self._listener.answer())

    def rest(self) -> None:
        """Ask while nothing happens."""
        self.idle[-1] += self._answers()

    def _answers(self) -> Round:
        answers, began = Round(), time.monotonic()
        for count in range(round(BURST / _EVERY)):
            moment = began + count * _EVERY
            late = time.monotonic() - moment
            time.sleep(max(0.0, -late))
            before = self._stood_in_line()
            self._client.get("/runs").raise_for_status()
            queued = self._stood_in_line() - before
            if answers and late > 0:
                queued += min(late, answers[-1].queued)
            answers.append(Answer(time.monotonic() - moment, queued))
        return answers

    def _stood_in_line(self) -> float:
        return self._server.queued() + queued(os.getpid())


def _percentile(times: Iterable[float], percent: int) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]


def _show(servers: Sequence[Server]) -> None:
    measured = dict[str, list[Round]]()
    for server in servers:
        if not server.hung:
            measured[f"{server.runs} at rest"] = server.idle
        measured[f"{server.runs} commit{', one hangs' * server.hung}"] = server.busy
    rows, goals = list[list[str]](), list[tuple[str, str, bool]]()
    for title, rounds in measured.items():
        seconds = [[answer.seconds for answer in answers] for answers in rounds]
        alone = [[answer.alone for answer in answers] for answers in rounds]
        fifty = spread(_percentile(times, 50) for times in seconds)
        most = spread(_percentile(times, 99) for times in seconds)
        least = spread(_percentile(times, 99) for times in alone)
        worst = spread(map(max, seconds))
        numbers = [number.show(MILLISECOND, 1) for number in (fifty, most, worst, least)]
        rows.append([title, str(sum(map(len, rounds))), *numbers])
        goals.append((title, f"{numbers[1]} ms", most.median <= _GOAL))
    what = "Answers of /runs, in ms: median over the rounds (min-max)"
    show_table(what, ["runs", "requests", "p50", "p99", "max", "p99*"], rows)
    print("* without the time in line for a processor that other threads and processes had\n")
    for title, shown, reached in goals:
        show_goal(f"{title}: p99 within 50 ms", shown, reached)


def _measure(rounds: int, bursts: int, counts: Sequence[int], loop: str) -> None:
    with tempfile.TemporaryDirectory(prefix="ckptstream-server-") as directory:
        root = Path(directory)
        processes = list[Process | Server]()
        try:
            trainers = Process("train", log=root / "trainers.log")
            processes.append(trainers)
            servers = list[Server]()
            for runs in counts:
                for hung in (False, True):
                    servers.append(Server(root, runs, hung, loop))
                    processes.append(servers[-1])
            for count in range(-1, rounds):  # The first one is not counted.
                print(f"round {count + 1} of {rounds}", file=sys.stderr)
                for server in servers:
                    if count <= 0:
                        server.idle.clear()
                        server.busy.clear()
                    server.idle.append([])
                    server.busy.append([])
                    for _ in range(bursts):
                        if not server.hung:
                            server.rest()
                        server.burst(trainers)
        finally:
            for process in processes:
                process.close()
    show_machine("anyio", "starlette", "uvicorn", "uvloop", "httpx")
    _show(servers)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description="time to an answer of the README's server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bursts", type=int, default=4, help="in each round")
    parser.add_argument("--runs", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--loop", default="auto", help="the event loop, as uvicorn calls it")
    arguments = parser.parse_args()
    _measure(arguments.rounds, arguments.bursts, arguments.runs, arguments.loop)


if __name__ == "__main__":
    main()
