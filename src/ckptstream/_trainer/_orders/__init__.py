"""
The order in which each framework writes, replaces and deletes, by the name of its layout.

To add one: a generator in a module of its family, and its row here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .._operation import Operation, Save
from . import _hub, _jax, _megatron, _others, _tensorflow, _torch
from ._template import template

__all__ = ["BUILT_IN", "template"]

BUILT_IN: dict[str, Callable[[Save], Iterator[Operation]]] = {
    "accelerate": _hub.accelerate,
    "composer": _torch.composer,
    "dcp": _torch.dcp,
    "deepspeed": _megatron.deepspeed,
    "fairseq": _torch.fairseq,
    "flax": _jax.flax,
    "hf": _hub.hugging_face,
    "keras": _others.keras,
    "keras-backup": _others.keras_backup,
    "keras-sharded": _others.keras_sharded,
    "levanter": _jax.levanter,
    "lightning": _torch.lightning,
    "llamafactory-v1": _hub.llamafactory,
    "maxtext": _jax.maxtext,
    "megatron": _megatron.megatron,
    "megatron-bridge": _megatron.megatron_bridge,
    "nemo": _megatron.nemo,
    "olmo": _others.olmo,
    "olmo-core": _others.olmo_core,
    "orbax": _jax.orbax,
    "prime-rl": _hub.prime_rl,
    "ray": _others.ray,
    "ray-v1": _others.ray_v1,
    "safetensors": _hub.save_pretrained,
    "sb3": _others.stable_baselines,
    "t5x": _jax.t5x,
    "tensorflow": _tensorflow.checkpoint_manager,
    "torch": _torch.torch_save,
    "torchtitan": _torch.torchtitan,
    "verl": _megatron.verl,
}
