"""
Lightning's Trainer: python lightning_trainer.py DIRECTORY EPOCHS KEEP {none,last,link}

One checkpoint after each epoch, of two steps; KEEP -1 keeps all. The last argument says what
becomes of `last.ckpt`. The checkpoint of step n holds the number n.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, unused-ignore"
from __future__ import annotations

import sys

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.steps = torch.nn.Parameter(torch.zeros(()), requires_grad=False)

    def training_step(self, batch, index):  # type: ignore[no-untyped-def]
        self.steps += 1
        loss = self.layer(batch).sum()
        self.log("score", float(self.steps))
        return loss

    def configure_optimizers(self):  # type: ignore[no-untyped-def]
        return torch.optim.SGD(self.layer.parameters(), 0.1)


def main(directory: str, epochs: int, keep: int, last: str) -> None:
    callback = ModelCheckpoint(
        directory,
        monitor="step" if keep > 0 else None,
        mode="max",
        save_top_k=keep,
        save_last={"none": None, "last": True, "link": "link"}[last],
    )
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(Model(), torch.utils.data.DataLoader(torch.ones(4, 2), batch_size=2))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
