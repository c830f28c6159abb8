"""
Orbax without a manager: python orbax_checkpointer.py DIRECTORY SAVES

The checkpoint of step n holds the number n; the last one is saved again, with `force=True` and
half a step more, when a line of standard input, or its end, has come.
"""

# mypy: disable-error-code="import-not-found, import-untyped, unused-ignore"
from __future__ import annotations

import os
import sys

import numpy as np
import orbax.checkpoint as ocp


def main(directory: str, saves: int) -> None:
    with ocp.StandardCheckpointer() as checkpointer:
        for number in [*range(1, saves + 1), saves + 0.5]:
            if number > saves:
                sys.stdin.readline()
            state = {"w": np.full(64, float(number))}
            checkpointer.save(os.path.join(directory, str(int(number))), state, force=True)
            checkpointer.wait_until_finished()


main(sys.argv[1], int(sys.argv[2]))
