"""
Accelerate: python accelerate_state.py PROJECT SAVES KEEP

Writes `PROJECT/checkpoints/checkpoint_0` and so on; KEEP 0 keeps all. The checkpoint of iteration
n holds the number n.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, unused-ignore"
from __future__ import annotations

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration


def main(project: str, saves: int, keep: int) -> None:
    configuration = ProjectConfiguration(
        project, automatic_checkpoint_naming=True, total_limit=keep or None
    )
    accelerator = Accelerator(cpu=True, project_config=configuration)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model, optimizer = accelerator.prepare(model, optimizer)
    for number in range(saves):
        with torch.no_grad():
            model.bias.fill_(number)
        accelerator.save_state()


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
