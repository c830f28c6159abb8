"""
Hugging Face's Trainer with a tiny model: python hf_trainer.py DIRECTORY STEPS KEEP [again]

KEEP 0 keeps all. The checkpoint of step n holds the number n in the classifier's bias. `again`
trains anew when a line of standard input, or its end, has come, and saves the last step over the
old one, with half a step more.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc"
from __future__ import annotations

import sys

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class CountSteps(TrainerCallback):
    def __init__(self, more: float) -> None:
        self.more = more

    def on_step_end(self, args, state, control, model, **others):  # type: ignore[no-untyped-def]
        with torch.no_grad():
            model.classifier.bias.fill_(state.global_step + self.more)


def main(directory: str, steps: int, keep: int, again: bool) -> None:
    train(directory, steps, 1, keep, 0.0)
    if again:
        sys.stdin.readline()
        train(directory, steps, steps, 0, 0.5)


def train(directory: str, steps: int, every: int, keep: int, more: float) -> None:
    config = BertConfig(
        vocab_size=16,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    rows = [
        {"input_ids": torch.tensor([1, 2, 3, 4]), "labels": torch.tensor(n % 2)} for n in range(8)
    ]
    arguments = TrainingArguments(
        directory,
        max_steps=steps,
        save_steps=every,
        save_total_limit=keep or None,
        per_device_train_batch_size=2,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    Trainer(
        BertForSequenceClassification(config),
        arguments,
        train_dataset=rows,
        callbacks=[CountSteps(more)],
    ).train()


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["again"])
