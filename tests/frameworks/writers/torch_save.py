"""
`torch.save`: python torch_save.py DIRECTORY SAVES KEEP

KEEP 0 keeps all. Writes `ckpt_1.pt` and so on. The checkpoint of step n holds the number n; the
last one is saved again, with half a step more, when a line of standard input, or its end, has come.
"""

# mypy: disable-error-code="import-not-found, import-untyped, unused-ignore"
from __future__ import annotations

import sys
from pathlib import Path

import torch


def main(directory: Path, saves: int, keep: int) -> None:
    directory.mkdir(exist_ok=True)
    for number in [*range(1, saves + 1), saves + 0.5]:
        if number > saves:
            sys.stdin.readline()
        step = int(number)
        torch.save({"w": torch.full((64,), float(number))}, directory / f"ckpt_{step}.pt")
        if keep:
            (directory / f"ckpt_{step - keep}.pt").unlink(missing_ok=True)


main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
