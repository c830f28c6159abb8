"""
`torch.save`: python torch_save.py DIRECTORY SAVES KEEP

KEEP 0 keeps all. Writes `ckpt_1.pt` and so on; the last one is saved twice. The checkpoint of step
n holds the number n.
"""

# mypy: disable-error-code="import-not-found, import-untyped, unused-ignore"
from __future__ import annotations

import sys
from pathlib import Path

import torch


def main(directory: Path, saves: int, keep: int) -> None:
    directory.mkdir(exist_ok=True)
    for step in [*range(1, saves + 1), saves]:
        torch.save({"w": torch.full((64,), float(step))}, directory / f"ckpt_{step}.pt")
        if keep:
            (directory / f"ckpt_{step - keep}.pt").unlink(missing_ok=True)


main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
