"""The package's own daemon threads, and how they tell an event loop what they have done."""

from ._call import Call
from ._hand_over import HandOver
from ._job import HUNG_AFTER, Job
from ._per_loop import PerLoop
from ._pool import HEALTHY_THREADS, HUNG_THREADS, Pool, current_pool, current_remote_pool

__all__ = [
    "HEALTHY_THREADS",
    "HUNG_AFTER",
    "HUNG_THREADS",
    "Call",
    "HandOver",
    "Job",
    "PerLoop",
    "Pool",
    "current_pool",
    "current_remote_pool",
]
