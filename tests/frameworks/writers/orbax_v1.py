"""
Orbax v1's `training.Checkpointer`: python orbax_v1.py DIRECTORY SAVES KEEP

It saves in the background, one after the other. The checkpoint of step n holds the number n; the
last one is saved again, with `overwrite=True` and half a step more, when a line of standard input,
or its end, has come.
"""

# mypy: disable-error-code="import-not-found, import-untyped, unused-ignore"
from __future__ import annotations

import sys

import numpy as np
from orbax.checkpoint.experimental.v1 import training


def main(directory: str, saves: int, keep: int) -> None:
    policy = training.preservation_policies.LatestN(keep)
    with training.Checkpointer(directory, preservation_policy=policy) as checkpointer:
        for number in [*range(1, saves + 1), saves + 0.5]:
            again = number > saves
            if again:
                sys.stdin.readline()
            state = {"w": np.full(64, float(number))}
            saved = checkpointer.save_async(int(number), state, force=again, overwrite=again)
            if saved is not None:
                saved.result()


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
