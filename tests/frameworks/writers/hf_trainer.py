"""
Hugging Face's Trainer with a tiny model: python hf_trainer.py DIRECTORY STEPS KEEP

KEEP 0 keeps all. The checkpoint of step n holds the number n in the classifier's bias.
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
    def on_step_end(self, args, state, control, model, **others):  # type: ignore[no-untyped-def]
        with torch.no_grad():
            model.classifier.bias.fill_(state.global_step)


def main(directory: str, steps: int, keep: int) -> None:
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
        save_steps=1,
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
        callbacks=[CountSteps()],
    ).train()


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
