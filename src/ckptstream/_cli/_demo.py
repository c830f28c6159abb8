"""`ckptstream demo`: a simulated trainer, and what is seen of it."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial

import anyio

from .. import Checkpoint, follow
from .._trainer import SimulatedTrainer
from ._command_line import LayoutName, command, value
from ._errors import Refused

_EXAMPLES = """\
examples:
  ckptstream demo
  ckptstream demo --layout orbax --count 20 --interval 0.5
"""


def _demo(layout: str, count: int, interval: float, debug: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="ckptstream-demo-") as directory:
        try:
            trainer = SimulatedTrainer(directory, layout, steps=count, interval=interval)
        except ImportError:
            raise Refused("the demo needs aiofiles: pip install 'ckptstream[cli]'") from None
        except ValueError as error:
            raise Refused(str(error)) from None
        print(f"A simulated trainer saves {count} checkpoints to {directory}", flush=True)
        return anyio.run(partial(_follow, trainer, directory, layout, count, interval + 10))


COMMAND = command(
    "demo",
    _demo,
    long="Follow a simulated trainer's checkpoints in a temporary directory.",
    examples=_EXAMPLES,
    parameters=(
        value(
            "--layout",
            "How it writes: hf, orbax, tensorflow, or a name such as 'step_{step}/DONE' (hf).",
            "LAYOUT",
            LayoutName(),
            "hf",
        ),
        value("--count", "How many checkpoints (5).", "N", int, 5),
        value("--interval", "Time between two of them (1).", "SECONDS", float, 1.0),
    ),
)


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
