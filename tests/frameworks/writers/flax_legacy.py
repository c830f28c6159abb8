"""
Flax's `save_checkpoint`: python flax_legacy.py DIRECTORY SAVES KEEP {msgpack,orbax}

The checkpoint of step n holds the number n; the last one is saved again, with half a step more,
when a line of standard input, or its end, has come.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, unused-ignore"
from __future__ import annotations

import sys

import flax
import numpy as np
from flax.training.checkpoints import save_checkpoint


def main(directory: str, saves: int, keep: int, shape: str) -> None:
    flax.config.update("flax_use_orbax_checkpointing", shape == "orbax")
    for number in [*range(1, saves + 1), saves + 0.5]:
        if number > saves:
            sys.stdin.readline()
        state = {"w": np.full(64, float(number))}
        save_checkpoint(directory, state, int(number), keep=keep, overwrite=True)


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
