"""The simulated trainer as a process of its own, which any event loop can start and kill."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from ._operations import Training, check
from ._simulated import apply, checked_interval, checked_steps

_PROGRAM = "python -m ckptstream.testing"
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Save checkpoints, blocking, as `SimulatedTrainer` does; it prints nothing.

    Returns:
        The exit code: 0; 1 if it crashed, as it was asked to; 2 for a wrong call; 130 after Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        steps = list(checked_steps(options.steps))
        check(options.layout, step=min(steps), crash_after=options.crash_after)
        checked_interval(options.interval)
        sizes = {"shards": options.shards, "shard_bytes": options.shard_bytes}
        training = Training(options.layout, keep=options.keep, **sizes)
    except ValueError as error:
        parser.error(str(error))
    try:
        _train(training, options.directory, steps, options.interval, options.crash_after)
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0 if options.crash_after is None else 1


def _train(
    training: Training, directory: str, steps: list[int], interval: float, crash_after: int | None
) -> None:
    for number, step in enumerate(steps):
        time.sleep(interval if number else 0)
        last = number == len(steps) - 1
        for operation in training.save(step, crash_after if last else None):
            apply(operation, directory)


def _parser() -> argparse.ArgumentParser:
    text = "Save checkpoints as a training framework does, in its own order."
    parser = argparse.ArgumentParser(_PROGRAM, description=text, allow_abbrev=False)
    parser.add_argument("directory", metavar="RUN", help="where; created if need be")
    text = "any built-in layout, or a template such as 'step_{step}/DONE' (hf)"
    parser.add_argument("--layout", default="hf", help=text)
    text = "how many, or which: 1,2,3,2,3 goes back to step 2 and saves both again (5)"
    parser.add_argument("--steps", default=5, type=_steps, metavar="STEPS", help=text)
    text = "time between two of them (1)"
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help=text)
    parser.add_argument("--keep", type=int, metavar="N", help="how many stay on disk (all)")
    text = "in how many files the weights are (1)"
    parser.add_argument("--shards", type=int, default=1, metavar="N", help=text)
    text = "the size of each of them (4096)"
    parser.add_argument("--shard-bytes", type=int, default=4096, metavar="BYTES", help=text)
    text = "stop in the middle of the last step, after so many operations, with exit code 1"
    parser.add_argument("--crash-after", type=int, metavar="N", help=text)
    return parser


def _steps(text: str) -> int | list[int]:
    try:
        steps = [int(step) for step in text.split(",") if step.strip()]
    except ValueError:
        steps = []
    if not steps:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, and no list of steps")
    return steps if "," in text else steps[0]
