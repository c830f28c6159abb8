"""
For the tests of programs that follow checkpoints: a simulated trainer, and its single steps.

`save` leaves a finished checkpoint on disk; `operations` and `apply` save one piece by piece;
`SimulatedTrainer` saves many from an asyncio task.
"""

from ._trainer import Operation, SimulatedTrainer, apply, operations, save

__all__ = ["Operation", "SimulatedTrainer", "apply", "operations", "save"]
