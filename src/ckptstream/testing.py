"""
For the tests of programs that follow checkpoints: a watcher without sleeping, a simulated trainer.

`ManualWatcher` lets a test say when something changed. `save` leaves a finished checkpoint on disk,
or with `crash_after` the half of one; `operations` and `apply` save one piece by piece.

`SimulatedTrainer` saves many from an asyncio task. For any other event loop, and to be killed,
there is the same as a process; here `trio.run_process` would do as well, in a nursery:

    command = [sys.executable, "-m", "ckptstream.testing", "runs/7b", "--layout", "megatron"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.run_process, command)  # killed if the group is cancelled
        async for checkpoint in ckptstream.follow("runs/7b", until_step=5):
            ...

`python -m ckptstream.testing --help` has its options, which are the arguments of
`SimulatedTrainer`, and `--crash-after`.
"""

from ._trainer import Operation, SimulatedTrainer, apply, operations, save
from ._watchers._manual import ManualWatcher

__all__ = ["ManualWatcher", "Operation", "SimulatedTrainer", "apply", "operations", "save"]

if __name__ == "__main__":
    import sys

    from ._trainer._process import main

    sys.exit(main())
