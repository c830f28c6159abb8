"""The command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version

import anyio

from . import Checkpoint, follow
from ._trainer import SimulatedTrainer


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    Returns:
        The exit code: 0, 1 if checkpoints were lost, 2 for a wrong call, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        return _demo(options.layout, options.count, options.interval)
    except (KeyboardInterrupt, asyncio.CancelledError):  # the latter on Python 3.10
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ckptstream", description="An async stream of new machine-learning checkpoints."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('ckptstream')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="watch a simulated trainer",
        description="Follow a simulated trainer's checkpoints in a temporary directory.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument(
        "--layout",
        default="hf",
        help="how it writes: hf, orbax, tensorflow, or a template such as 'step_{step}/DONE'",
    )
    demo.add_argument("--count", type=int, default=5, metavar="N", help="how many checkpoints")
    demo.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="time between two of them"
    )
    return parser


def _demo(layout: str, count: int, interval: float) -> int:
    with tempfile.TemporaryDirectory(prefix="ckptstream-demo-") as directory:
        try:
            trainer = SimulatedTrainer(directory, layout, steps=count, interval=interval)
        except ImportError:
            return _refuse("the demo needs aiofiles: pip install 'ckptstream[cli]'")
        except ValueError as error:
            return _refuse(str(error))
        print(f"A simulated trainer saves {count} checkpoints to {directory}", flush=True)
        return anyio.run(partial(_follow, trainer, directory, layout, count, interval + 10))


async def _follow(
    trainer: SimulatedTrainer, directory: str, layout: str, count: int, timeout: float
) -> int:
    """Train and follow in one event loop; neither waits for the other."""
    delivered = 0
    layout = layout if "{step}" in layout else "auto"
    stream = follow(directory, layout=layout, until_step=count, timeout=timeout)
    async with anyio.create_task_group() as tasks, stream:
        tasks.start_soon(trainer.run)
        async for checkpoint in stream:
            now = anyio.current_time()
            late = now - trainer.committed.get(checkpoint.path, now)
            delivered += 1
            print(_line(checkpoint, directory, late), flush=True)
        tasks.cancel_scope.cancel()
    status = stream.status()
    print(f"Ended: {status.ended}; {delivered} of {count} delivered", flush=True)
    if delivered == count:
        return 0
    print(status, file=sys.stderr)
    return 1


def _line(checkpoint: Checkpoint, directory: str, late: float) -> str:
    path = os.path.relpath(checkpoint.path, directory)
    return (
        f"{path:<16} step {checkpoint.step:<4} {checkpoint.layout:<12}"
        f" {late * 1000:.1f} ms after the trainer finished it"
    )


def _refuse(reason: str) -> int:
    print(f"ckptstream: {reason}", file=sys.stderr)
    return 2
