"""`ckptstream demo`: simulated trainers, and what is seen of them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial

import anyio

from .. import Checkpoint, CheckpointStream, follow
from .._trainer import SimulatedTrainer
from ._command_line import LayoutName, command, value
from ._errors import Refused

_EXAMPLES = """\
examples:
  ckptstream demo
  ckptstream demo --layout orbax --count 20 --interval 0.5
  ckptstream demo --layout megatron --runs 3
"""


def _demo(layout: str, count: int, interval: float, runs: int, debug: bool) -> int:
    if runs < 1:
        raise Refused(f"--runs={runs} trains nothing: give 1 or more")
    with tempfile.TemporaryDirectory(prefix="ckptstream-demo-") as directory:
        paths = [os.path.join(directory, f"run-{run}") for run in range(1, runs + 1)]
        if runs == 1:
            paths = [directory]
        for path in paths:
            os.makedirs(path, exist_ok=True)  # A pattern that nothing matches is worth a warning.
        trainers = _trainers(paths, layout, count, interval)
        followed = os.path.join(directory, "run-*") if runs > 1 else directory
        save = f"{runs} simulated trainers save" if runs > 1 else "A simulated trainer saves"
        each = " each" if runs > 1 else ""
        print(f"{save} {count} checkpoints{each} to {followed}", flush=True)
        layout = layout if "{step}" in layout else "auto"
        begin = partial(follow, followed, layout=layout, timeout=interval + 10)
        return anyio.run(_follow, trainers, begin, directory, count * runs)


def _trainers(
    paths: Sequence[str], layout: str, count: int, interval: float
) -> list[SimulatedTrainer]:
    try:
        return [SimulatedTrainer(path, layout, steps=count, interval=interval) for path in paths]
    except ImportError:
        raise Refused("the demo needs aiofiles: pip install 'ckptstream[cli]'") from None
    except ValueError as error:
        raise Refused(str(error)) from None


COMMAND = command(
    "demo",
    _demo,
    long="Follow simulated trainers' checkpoints in a temporary directory.",
    examples=_EXAMPLES,
    parameters=(
        value(
            "--layout",
            "How it writes: any built-in layout, or a name such as 'step_{step}/DONE' (hf).",
            "LAYOUT",
            LayoutName(),
            "hf",
        ),
        value("--runs", "How many trainings at once, followed by a pattern (1).", "N", int, 1),
        value("--count", "How many checkpoints of each (5).", "N", int, 5),
        value("--interval", "Time between two of them (1).", "SECONDS", float, 1.0),
    ),
)


async def _follow(
    trainers: Sequence[SimulatedTrainer],
    begin: Callable[[], CheckpointStream],
    directory: str,
    expected: int,
) -> int:
    """Train and follow in one event loop; neither waits for the other."""
    delivered = 0
    stream = begin()
    async with anyio.create_task_group() as tasks, stream:
        for trainer in trainers:
            tasks.start_soon(trainer.run)
        async for checkpoint in stream:
            now = anyio.current_time()
            committed = (trainer.committed.get(checkpoint.path, now) for trainer in trainers)
            delivered += 1
            print(_line(checkpoint, directory, now - min(committed)), flush=True)
            if delivered == expected:
                break
        tasks.cancel_scope.cancel()
    status = stream.status()
    why = "all is trained" if delivered == expected else status.ended
    print(f"Ended: {why}; {delivered} of {expected} delivered", flush=True)
    if delivered == expected:
        return 0
    print(status, file=sys.stderr)
    return 1


def _line(checkpoint: Checkpoint, directory: str, late: float) -> str:
    path = os.path.relpath(checkpoint.path, directory)
    step = "-" if checkpoint.step is None else checkpoint.step
    return (
        f"{path:<16} step {step:<4} {checkpoint.layout:<12}"
        f" {late * 1000:.1f} ms after the trainer finished it"
    )
