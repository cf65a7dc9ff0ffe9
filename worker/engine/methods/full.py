"""Full fine-tuning: every weight trains (Devlin et al. 2018, arXiv 1810.04805, section 3.2).

    W ← W − η · AdamW(∂L/∂W)      for every W of the model

For P parameters in float32 the step holds 16·P bytes: weights, gradients, and Adam's two moments, 4·P each.
"""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.domain.methods import FullSpec
from app.domain.runs import RunSpec


def expected_trainable(model: PreTrainedModel, spec: FullSpec) -> frozenset[str]:
    """Every parameter."""
    return frozenset(name for name, _ in model.named_parameters())


def apply(model: PreTrainedModel, spec: FullSpec) -> PreTrainedModel:
    """The model itself, with everything set to train."""
    return model.requires_grad_(True)


def group(name: str) -> str:
    """`bert.encoder`, `bert.embeddings`, `classifier`: the first level of the base model, and the head's parts."""
    parts = name.split(".")[:-1]
    return ".".join(parts[:2]) if len(parts) > 2 else parts[0]


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, run: RunSpec, directory: Path) -> Path:
    """The whole model: `AutoModelForSequenceClassification.from_pretrained(folder)` loads it."""
    folder = directory / "model"
    # A machine's own path would otherwise travel in config.json.
    model.config._name_or_path = run.base_model
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
