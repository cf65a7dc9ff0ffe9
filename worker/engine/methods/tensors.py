"""Save the trained tensors: their values in safetensors, and a description of their model in JSON."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from app.domain.runs.spec import RunSpec


def trained(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def save(model: PreTrainedModel, run: RunSpec, folder: Path, name: str, usage: str) -> Path:
    """Write `name.safetensors` and `name.json` into a new folder and return it; `usage` says how to load them."""
    folder.mkdir()
    tensors = {key: tensor.contiguous() for key, tensor in trained(model).items()}
    save_file(tensors, folder / f"{name}.safetensors", metadata={"format": "pt"})
    about = {
        "format": usage,
        "base_model": run.base_model,
        "task": run.task,
        "method": run.method.model_dump(),
        "labels": list((model.config.id2label or {}).values()),
    }
    (folder / f"{name}.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def sort_adapter_config(folder: Path) -> None:
    """Write it with sorted module names: PEFT keeps them in sets, whose order differs from process to process."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    for name, value in config.items():
        if name.endswith(("modules", "to_save")) and isinstance(value, list):
            config[name] = sorted(value)
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
