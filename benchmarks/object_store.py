"""
What it takes to follow runs in a bucket: requests, processor time, bytes, and latency.

The bucket is on loopback, in a server of this benchmark's own (`_store_server.py` says why), in a
process of its own; so is each contender. A checkpoint is a few objects below `step_N/`, with the
marker `DONE` put last. Each run has some already, whose times are a cadence of 20 minutes apart,
give or take 5 %, and saves on with that cadence while it is followed; the runs are spread over the
cadence. Time is real, and an hour is not waited for: what a window of some minutes takes is
multiplied. Of a thousand runs half save in 10 minutes. Before the window come the first look, in a
table of its own, and a tenth of the window to come to rest.

- rounds: the window is cut into them. Few runs (less than 20) are followed for twice as long, by a
  process for each round, and the times at which they save are spread over the cadence. Up to 100
  runs, all contenders are measured at once, more one after the other.
- ckptstream polls as it does by itself. The others look at all runs every 10 seconds, its own
  shortest interval (`--interval`), one run after the other, and ask for the marker of what is new;
  "s from look to look" says whether they could keep it. s3fs does so also every 30 seconds, the
  longest interval whose p50 is 15 s, the goal. boto3 also lists all objects of all runs instead:
  with a short history that takes few requests, but the longer it is, the more, one for 1,000
  objects (`--history`, `--files`). A round should be several times as long as an interval.
  `a list per run and second` is arithmetic.
- CPU is the processor time of the contender's process, of the user and the system. The goal
  compares an hour of each, as measured: what s3fs would take in addition, if it could keep the
  interval, does not count. CPU a request compares the same work.
- bytes are what the server answered, with headers.
- latency: the clock, CLOCK_MONOTONIC, starts right before the last PUT of a checkpoint, and stops
  at the first statement in the body of the loop. Unheard is what has not come 90 s after the end.
- wake(): after the window runs save, and right after each PUT the process is told to call it.

With what is set by default it takes an hour and a half.
Needs `ckptstream[object-store]`, `s3fs` and `boto3`; what is not installed is left out.
"""

from __future__ import annotations

import argparse

from _common import show_machine
from _store_bench import Key, Settings, measure
from _store_clients import CONTENDERS
from _store_tables import show


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description="what it takes to follow runs in a bucket")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 1_000])
    parser.add_argument("--minutes", type=float, default=10, help="of the window")
    parser.add_argument("--rounds", type=int, default=3, help="in the window")
    parser.add_argument("--cadence", type=float, default=20, help="minutes")
    parser.add_argument("--jitter", type=float, default=0.05, help="of the cadence, at most")
    parser.add_argument("--history", type=int, default=5, help="checkpoints of each run")
    parser.add_argument("--files", type=int, default=3, help="objects of each checkpoint")
    parser.add_argument("--interval", type=float, default=10, help="of the others, in seconds")
    parser.add_argument("--wakes", type=int, default=5, help="in each round")
    parser.add_argument(
        "--follows", nargs="+", default=[""], help="only contenders whose names have one of these"
    )
    options = parser.parse_args()
    settings = Settings(
        window=60 * options.minutes,
        interval=options.interval,
        cadence=60 * options.cadence,
        jitter=options.jitter,
        history=options.history,
        files=options.files,
        rounds=options.rounds,
        wakes=options.wakes,
    )
    titles = [title for title in CONTENDERS if any(part in title for part in options.follows)]
    results = measure([Key(title, size) for size in options.runs for title in titles], settings)
    show_machine("anyio", "obstore", "s3fs", "boto3")
    show(results)


if __name__ == "__main__":
    main()
