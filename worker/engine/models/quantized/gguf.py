"""From GGUF to safetensors: the quantized weights of one file become a directory in bfloat16 that transformers loads as
any other base model."""

import json
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gguf  # noqa: F401 transformers needs it; without it, the error names it
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(file: Path, directory: Path) -> None:
    """Write model and tokenizer of a GGUF file into a directory, which appears complete. The same file gives the same
    weights and configuration on every machine."""
    options: dict[str, Any] = {"gguf_file": file.name}
    if hasattr(transformers, "GgufConfig"):  # newer versions keep the weights packed by default, unfit for training
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.bfloat16, **options)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # it describes the file; `save_pretrained` refuses a quantized model
    directory.parent.mkdir(parents=True, exist_ok=True)
    part = Path(mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        configuration = json.loads((part / "config.json").read_text())
        configuration.pop("transformers_version", None)  # it would make the model another one after an upgrade
        (part / "config.json").write_text(json.dumps(configuration, indent=2, sort_keys=True))
        part.chmod(0o755)
        part.replace(directory)
    finally:
        shutil.rmtree(part, ignore_errors=True)
