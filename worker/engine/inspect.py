"""Look at a base model without loading it: its configuration, built on torch's `meta` device, which has no memory."""

import hashlib
import json
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from app.domain.models import ModelFacts
from worker.engine.architecture import base_of, default_target_modules, head_of, linear_modules
from worker.engine.model import load_config, weight_files

_SAMPLE_BYTES = 65536


def inspect(location: str, revision: str = "") -> ModelFacts:
    """Facts of the model in a directory or on the hub. Raises `RunFailed` as `model.load_config` does."""
    config = load_config(location, revision, num_labels=2)
    facts = describe(config)
    if Path(location).is_dir():
        revision = fingerprint(Path(location))
    else:
        revision = getattr(config, "_commit_hash", None) or revision
    return facts.model_copy(update={"revision": revision})


def describe(config: PreTrainedConfig) -> ModelFacts:
    """Facts that the configuration alone decides. The head over 2 and over 3 labels tells its two kinds of parameters
    apart: those that each label adds, and the rest."""
    two, three = _on_meta(config, 2), _on_meta(config, 3)
    head, base = _parameters(head_of(two)), _parameters(two) - _parameters(head_of(two))
    per_label = _parameters(three) - _parameters(two)
    positions = getattr(config, "max_position_embeddings", None)
    return ModelFacts(
        architecture=type(base_of(two)).__name__,
        model_type=config.model_type,
        parameters=base,
        head_fixed_parameters=head - 2 * per_label,
        head_parameters_per_label=per_label,
        hidden_size=config.hidden_size,
        layers=config.num_hidden_layers,
        max_positions=positions if positions and positions > 0 else None,
        linear_modules=linear_modules(two),
        default_target_modules=default_target_modules(config.model_type),
    )


def _on_meta(config: PreTrainedConfig, labels: int) -> PreTrainedModel:
    config.num_labels = labels
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    return model


def _parameters(module: nn.Module) -> int:
    """Parameters of a module; tied ones count once."""
    return sum(p.numel() for p in module.parameters())


def fingerprint(directory: Path) -> str:
    """A hash that names a directory's model: SHA-256 of config.json and, of each safetensors file, its name, its size,
    its header (every tensor's name, type and place) and 64 KiB from the beginning, the middle and the end.

    Cheap at any size. Files that differ in other places only are not told apart; a training step changes them all.
    """
    digest = hashlib.sha256((directory / "config.json").read_bytes())
    for path in weight_files(directory):
        size = path.stat().st_size
        digest.update(json.dumps([path.name, size]).encode())
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
            digest.update(file.read(min(header, size)))
            for start in (8 + header, size // 2, max(0, size - _SAMPLE_BYTES)):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
