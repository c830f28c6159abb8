"""A trainer that trains nothing: it leaves checkpoints on disk as the real frameworks do."""

from ._operation import Operation
from ._operations import operations
from ._simulated import SimulatedTrainer, apply, save

__all__ = ["Operation", "SimulatedTrainer", "apply", "operations", "save"]
