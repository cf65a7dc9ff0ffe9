"""Linear probe: the base model is frozen, its new head trains (Alain & Bengio 2016, arXiv 1610.01644).

    y = head(h)      h = the base model's output, which no gradient enters

Load what is saved into a fresh model with the same labels:

    model = AutoModelForSequenceClassification.from_pretrained(base_model, num_labels=…)
    model.load_state_dict(safetensors.torch.load_file("adapter/head.safetensors"), strict=False)
"""

import json
from pathlib import Path

from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.domain.methods import HeadOnlySpec
from app.domain.runs import RunSpec
from worker.engine.architecture import head_names


def expected_trainable(model: PreTrainedModel, spec: HeadOnlySpec) -> frozenset[str]:
    """The head's parameters."""
    return frozenset(
        f"{head}.{name}" for head in head_names(model) for name, _ in model.get_submodule(head).named_parameters()
    )


def apply(model: PreTrainedModel, spec: HeadOnlySpec) -> PreTrainedModel:
    """The model itself, frozen but for its head."""
    model.requires_grad_(False)
    for name in head_names(model):
        model.get_submodule(name).requires_grad_(True)
    return model


def group(name: str) -> str:
    """The part of the head: `classifier`."""
    return name.split(".")[0]


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, run: RunSpec, directory: Path) -> Path:
    """The head's tensors, and a line that says whose head it is."""
    folder = directory / "adapter"
    folder.mkdir()
    heads = tuple(f"{name}." for name in head_names(model))
    tensors = {name: p.detach().contiguous() for name, p in model.named_parameters() if name.startswith(heads)}
    save_file(tensors, folder / "head.safetensors", metadata={"format": "pt"})
    about = {
        "format": "classification head: tensors of AutoModelForSequenceClassification, load with strict=False",
        "base_model": run.base_model,
        "task": run.task,
        "labels": list((model.config.id2label or {}).values()),
    }
    (folder / "head.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder
