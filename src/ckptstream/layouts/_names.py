"""What names alone say."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable
from functools import lru_cache
from typing import TypeVar, cast

_Search = TypeVar("_Search", bound=Callable[..., object])

_FEW = 64  # names in a directory, of which what was found is remembered

_TEMPORARY = re.compile(
    r"""
      .*\.orbax-checkpoint-tmp.* | .*\.partial_save | .*\.pending_.* | .*\._recovery_.*  # Orbax
    | _SNAPSHOTS                                    # Orbax's own readers
    | .*_temp | .*\.tempstate[0-9]+                 # TensorFlow
    | checkpoint_tmp(_gda)?                         # Flax
    | tmp-checkpoint-.* | \.tmp.*                   # Trainer 4.36 to 4.38, safetensors
    | tmp_.* | .*-tmp                               # torch-checkpointing, OLMo
    | .*-unfinished                                 # NeMo
    | .*\.tmp([-.\w]*)?                             # T5X, fairseq, torch
    | \.nfs.*                                       # NFS: deleted, but held open by somebody
    """,
    re.VERBOSE | re.DOTALL,
)


_WEIGHTS = re.compile(
    r"(?i).*\.(pt|pth|ckpt|bin|safetensors|np[yz]|pkl|pickle|msgpack|h5|keras|zip|tar|gguf|onnx"
    r"|params|joblib|eqx)",
    re.DOTALL,
)


def is_weights(name: str) -> bool:
    """Whether a file's name says that it holds weights, or the like: it grows while it is there."""
    return _WEIGHTS.fullmatch(name) is not None


def is_temporary(name: str) -> bool:
    """Whether a framework or filesystem uses such a name for what is not finished, or is gone."""
    return _TEMPORARY.fullmatch(name) is not None


def remember_few(search: _Search) -> _Search:
    """
    Have *search* remember what it found among names, its first argument, if they are few.

    Checkpoints of a kind have the same names inside: a thousand runs with twenty of them each.
    """
    remembering = lru_cache(maxsize=1000)(search)

    def found(names: Collection[str], *others: Hashable) -> object:
        if isinstance(names, tuple) and len(names) <= _FEW:
            return remembering(names, *others)
        return search(names, *others)

    return cast("_Search", found)
