"""What one would write without Vezna: transformers' Trainer and PEFT's LoRA. The other sides of engine.py.

    python -m benchmarks.speed.plain TASK.json

TASK.json: model, method (`lora` or `full`), labels, train and test (lists of [text, label number]), epochs, batch_size,
learning_rate, max_length, seed, output, flags (more of the Trainer's arguments). The last line of stdout is a JSON
object: seconds (of `trainer.train()` alone), tokens (real ones, without padding), loss (mean over the last epoch),
test_loss, test_accuracy, steps, precision.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    set_seed,
)


def main(task: dict[str, Any]) -> None:
    """Train, test, and print the result."""
    set_seed(task["seed"])
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    model = AutoModelForSequenceClassification.from_pretrained(task["model"], num_labels=len(task["labels"]))
    if task["method"] == "lora":
        lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules=["query", "value"])
        model = get_peft_model(model, lora)

    def encode(rows: list[tuple[str, int]]) -> list[dict[str, Any]]:
        encoded = tokenizer([text for text, _ in rows], truncation=True, max_length=task["max_length"])
        columns = {**encoded, "labels": [label for _, label in rows]}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    train, test = encode(task["train"]), encode(task["test"])
    arguments = TrainingArguments(
        output_dir=task["output"],
        num_train_epochs=task["epochs"],
        per_device_train_batch_size=task["batch_size"],
        learning_rate=task["learning_rate"],
        seed=task["seed"],
        # Not defaults, and to this side's advantage or without effect on time: no checkpoint within the time that is
        # measured, one loss an epoch, which the default interval of 500 steps would not give.
        save_strategy="no",
        logging_strategy="epoch",
        **task["flags"],
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
    )
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    tested = trainer.evaluate(test)  # type: ignore[arg-type]
    result = {
        "seconds": seconds,
        "tokens": task["epochs"] * sum(len(row["input_ids"]) for row in train),
        "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1],
        "test_loss": tested["eval_loss"],
        "test_accuracy": tested["eval_accuracy"],
        "steps": trainer.state.global_step,
        "precision": "bf16" if arguments.bf16 else "fp32",
    }
    print(json.dumps(result))


def accuracy(found: EvalPrediction) -> dict[str, float]:
    """Share of rows whose most probable label is theirs."""
    return {"accuracy": float(np.mean(np.argmax(found.predictions, axis=1) == found.label_ids))}


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
