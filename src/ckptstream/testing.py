"""
For the tests of programs that follow checkpoints: a watcher without sleeping, a simulated trainer.

`ManualWatcher` lets a test say when something changed. `save` leaves a finished checkpoint on disk;
`operations` and `apply` save one piece by piece; `SimulatedTrainer` saves many from an asyncio
task.
"""

from ._trainer import Operation, SimulatedTrainer, apply, operations, save
from ._watchers._manual import ManualWatcher

__all__ = ["ManualWatcher", "Operation", "SimulatedTrainer", "apply", "operations", "save"]
