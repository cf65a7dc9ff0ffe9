"""transformers' Trainer with PEFT's LoRA, SDPA and bfloat16 on padded batches: what the engine is compared with."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from app.domain.methods import LoraSpec
from benchmarks.gpu.runs import Run
from benchmarks.gpu.session import Session

WARM_UP = 2
"""Steps that are not timed: CUDA loads its kernels in the first."""


class _Clock(TrainerCallback):
    """Reads the time when the device has finished the steps."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """After each step; only the marks of the warm-up and of the last step wait for the device."""
        if torch.cuda.is_available() and state.global_step in (WARM_UP, state.max_steps):
            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())


class _Padded:
    """Collates rows, padded on the right to the longest, and counts their tokens."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def __call__(self, rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        ids = [row["input_ids"] for row in rows]
        self.tokens.append(sum(map(len, ids)))
        mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
        labels = pad_sequence(ids, batch_first=True, padding_value=-100)
        return {"input_ids": pad_sequence(ids, batch_first=True), "attention_mask": mask, "labels": labels}


def tokens_per_second(session: Session, run: Run) -> float:
    """Real tokens per second of the steps after the warm-up, of the same rows, batch size, rank and modules."""
    method, training = run.method, run.training
    assert isinstance(method, LoraSpec)
    folder = run.saved(session)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa")
    lora = LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=method.r, lora_alpha=method.lora_alpha, target_modules="all-linear"
    )
    texts = [row.text or "" for row in run.rows if row.split == "train"]
    encoded = tokenizer(texts, truncation=True, max_length=training.max_length)["input_ids"]
    clock, collate = _Clock(), _Padded()
    with tempfile.TemporaryDirectory(dir=session.scratch) as output:
        arguments = TrainingArguments(
            output_dir=str(Path(output)),
            max_steps=training.max_steps or -1,
            per_device_train_batch_size=training.per_device_train_batch_size,
            learning_rate=1e-4,
            bf16=True,
            use_cpu=session.device == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=get_peft_model(model, lora),
            args=arguments,
            train_dataset=[{"input_ids": torch.tensor(ids)} for ids in encoded],  # type: ignore[arg-type]
            data_collator=collate,
            callbacks=[clock],
        )
        trainer.train()
    seconds = clock.marks[-1] - clock.marks[WARM_UP - 1]
    return sum(collate.tokens[WARM_UP : len(clock.marks)]) / seconds
