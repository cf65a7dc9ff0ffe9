"""Which training arguments of transformers' Trainer say how a model is trained."""

from dataclasses import MISSING, fields
from typing import Any

ALWAYS = (
    "learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps",
    "lr_scheduler_type", "weight_decay", "warmup_steps", "max_grad_norm", "optim", "seed",
)  # fmt: skip
"""Training arguments that are stated even at their defaults."""
NOT_SETTINGS = (
    "output", "log", "save", "eval", "push", "hub", "report", "run_name", "project", "trackio", "disable_tqdm",
    "resume", "do_", "local", "ddp", "debug", "use_cpu", "remove_unused", "label_names", "include", "skip_memory",
    "dataloader_num_workers", "dataloader_pin", "dataloader_persistent", "dataloader_prefetch", "ignore_data_skip",
    "restore", "batch_eval", "past_index", "length_column", "overwrite", "per_device_eval", "prediction", "load_best",
)  # fmt: skip
"""Beginnings of the names of training arguments that say nothing of how a model is trained."""


def training_settings(args: Any) -> dict[str, Any]:
    """The training arguments that say how a model is trained: the usual ones, and those that are not at their
    defaults."""
    stated = {}
    for field in fields(args):
        value = getattr(args, field.name, None)
        kept = all(isinstance(one, bool | int | float | str) for one in (value if isinstance(value, list) else [value]))
        usual = field.default if field.default_factory is MISSING else field.default_factory()
        if field.name in ALWAYS or not (field.name.startswith(NOT_SETTINGS) or not kept or value == usual):
            stated[field.name] = value
    return stated
