"""
A constant for each framework.

To add one: the constant, its trace, its order in the simulated trainer, its row in the README.
"""

from __future__ import annotations

from .._described import Described
from ._hub import ACCELERATE, LLAMAFACTORY, PRIME_RL, SAFETENSORS
from ._jax import FLAX, LEVANTER, MAXTEXT, T5X
from ._megatron import DEEPSPEED, MEGATRON, MEGATRON_BRIDGE, NEMO, VERL
from ._others import KERAS, KERAS_BACKUP, KERAS_SHARDED, OLMO, OLMO_CORE, RAY, RAY_V1, SB3
from ._torch import COMPOSER, DCP, FAIRSEQ, LIGHTNING, TORCH_SAVE, TORCHTITAN

GENERIC: tuple[Described, ...] = (DCP, SAFETENSORS, TORCH_SAVE)
PRESETS: tuple[Described, ...] = (
    *(LIGHTNING, TORCHTITAN, DEEPSPEED, MEGATRON_BRIDGE, MEGATRON, VERL, PRIME_RL, LLAMAFACTORY),
    *(ACCELERATE, NEMO, COMPOSER, FAIRSEQ, OLMO, OLMO_CORE, KERAS_BACKUP, KERAS_SHARDED, KERAS),
    *(FLAX, T5X, MAXTEXT, LEVANTER, RAY, RAY_V1, SB3, *GENERIC),
)
