"""The simulated trainer as a process of its own, which any event loop can start and kill."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from ._operations import Training, check
from ._simulated import apply, checked_interval

_PROGRAM = "python -m ckptstream.testing"
_INTERRUPTED = 130
_BEAT = 0.05  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Save checkpoints, blocking, as `SimulatedTrainer` does; it prints nothing.

    Returns:
        The exit code: 0; 1 if it crashed, as it was asked to, or cannot write; 2 for a wrong call;
        130 after Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        check(options.layout, crash_after=options.crash_after)
        checked_interval(options.interval)
        sizes = {"shards": options.shards, "shard_bytes": options.shard_bytes}
        training = Training(options.layout, keep=options.keep, **sizes)
    except ValueError as error:
        parser.error(str(error))
    with _interrupts() as interrupts:
        try:
            for _ in _train(training, options):
                if interrupts:
                    return _INTERRUPTED
        except OSError as error:
            parser.exit(1, f"{_PROGRAM}: error: {error}\n")
    return 0 if options.crash_after is None else 1


@contextmanager
def _interrupts() -> Generator[Sequence[int]]:
    """The interrupts so far: raised in the middle of anything, one may leave a traceback."""
    found = list[int]()
    before = signal.signal(signal.SIGINT, lambda number, frame: found.append(number))
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, before)


def _train(training: Training, options: argparse.Namespace) -> Iterator[None]:
    """Save all of them; yields where it may end."""
    steps: Sequence[int] = options.steps
    for number, step in enumerate(steps, 1):
        until = time.monotonic() + (options.interval if number > 1 else 0)
        while (remaining := until - time.monotonic()) > 0:
            yield
            time.sleep(min(remaining, _BEAT))
        crash_after = options.crash_after if number == len(steps) else None
        for operation in training.save(step, crash_after):
            apply(operation, options.directory)
            yield


def _parser() -> argparse.ArgumentParser:
    text = "Save checkpoints as a training framework does, in its own order."
    parser = argparse.ArgumentParser(_PROGRAM, description=text, allow_abbrev=False)
    parser.add_argument("directory", metavar="RUN", help="where; created if need be")
    text = "any built-in layout, or a template such as 'step_{step}/DONE' (hf)"
    parser.add_argument("--layout", default="hf", help=text)
    text = "how many, or which: 1,2,3,2,3 goes back to step 2 and saves both again (5)"
    parser.add_argument("--steps", default=range(1, 6), type=_steps, metavar="STEPS", help=text)
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


def _steps(text: str) -> Sequence[int]:
    try:
        numbers = [int(step) for step in text.split(",") if step.strip()]
    except ValueError:
        numbers = []
    steps = numbers if "," in text else range(1, sum(numbers) + 1)
    if not steps or min(numbers) < 0:
        message = f"{text!r} is no number of steps, 1 or more, and no list of steps, 0 or more"
        raise argparse.ArgumentTypeError(message)
    return steps
