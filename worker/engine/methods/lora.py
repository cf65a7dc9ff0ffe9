"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685), by PEFT.

    y = W·x + s·B·A·x      W [out, in] frozen,  A [r, in],  B [out, r],  s = lora_alpha / r

A starts random and B at zero, so training starts at the base model, and the first step moves B alone: A's gradient is
a multiple of B. Each adapted layer trains r·(in + out) numbers instead of in·out. The new head trains beside them, as
in PEFT's `modules_to_save`: a trained copy is kept in the adapter, the original stays in the model and is not used.

With `use_rslora` s = lora_alpha / √r (arXiv 2312.03732); with `use_dora` the result's columns are rescaled to a
trained magnitude m [out] (arXiv 2402.09353).
"""

from pathlib import Path

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.domain.errors import RunFailed
from app.domain.methods import LoraSpec, matching, short_names
from app.domain.runs import FailureCode, RunSpec
from worker.engine.architecture import default_target_modules, head_names, linear_modules

_ROOT = "base_model.model"
"""PEFT's name for the model that it wraps."""


def targets(model: PreTrainedModel, spec: LoraSpec) -> list[str]:
    """Full names of the linear layers that a spec adapts; never the head's."""
    linear = linear_modules(model)
    wanted = default_target_modules(model.config.model_type) if spec.target_modules is None else spec.target_modules
    if wanted == "all-linear":
        found = linear
    else:
        found = matching(wanted, linear)
        missing = [w for w in wanted if not matching([w], linear)]
        if missing or not found:
            what = f"no linear module {missing[0]!r}" if missing else "no default target modules in PEFT"
            raise RunFailed(
                FailureCode.BAD_CONFIGURATION,
                f"target_modules: {model.config.model_type} has {what}. "
                f'Choose from {", ".join(short_names(linear))}, or "all-linear".',
            )
    return [f"{model.base_model_prefix}.{module.name}" for module in found]


def expected_trainable(model: PreTrainedModel, spec: LoraSpec) -> frozenset[str]:
    """A and B of every target, m with DoRA, the biases that `bias` names, and the head's copy."""
    adapted = targets(model, spec)
    matrices = ["lora_A.default.weight", "lora_B.default.weight"]
    matrices += ["lora_magnitude_vector.default.weight"] if spec.use_dora else []
    names = {f"{_ROOT}.{target}.{matrix}" for target in adapted for matrix in matrices}
    for head in head_names(model):
        copy = f"{_ROOT}.{head}.modules_to_save.default"
        names |= {f"{copy}.{name}" for name, _ in model.get_submodule(head).named_parameters()}
    for name, _ in model.named_parameters():
        owner, _, kind = name.rpartition(".")
        if kind != "bias" or name.split(".")[0] in head_names(model):
            continue
        if owner in adapted and spec.bias != "none":
            names.add(f"{_ROOT}.{owner}.base_layer.bias")
        elif owner not in adapted and spec.bias == "all":
            names.add(f"{_ROOT}.{name}")
    return frozenset(names)


def apply(model: PreTrainedModel, spec: LoraSpec) -> PeftModel:
    """The model inside PEFT's wrapper."""
    options = spec.model_dump(exclude={"kind", "target_modules"})
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        # Full names: the end of a name, such as `dense`, could also be a layer of the head.
        target_modules=targets(model, spec),
        modules_to_save=head_names(model),
        **options,
    )
    return get_peft_model(model, config)


def group(name: str) -> str:
    """`lora_A, lora_B of query`, `bias`, or the part of the head."""
    parts = name.removeprefix(f"{_ROOT}.").split(".")
    for matrix in ("lora_A", "lora_B", "lora_magnitude_vector"):
        if matrix in parts:
            matrices = "magnitude" if matrix == "lora_magnitude_vector" else "lora_A, lora_B"
            return f"{matrices} of {parts[parts.index(matrix) - 1]}"
    return parts[0] if "modules_to_save" in parts else "bias"


def save(model: PeftModel, tokenizer: PreTrainedTokenizerBase, run: RunSpec, directory: Path) -> Path:
    """PEFT's own format: `PeftModel.from_pretrained(base, folder)` loads it, with the head."""
    folder = directory / "adapter"
    # The base model by its registered name: a directory's path would tell of this machine and be wrong on others.
    model.peft_config["default"].base_model_name_or_path = run.base_model
    # "auto" would ask the hub whether the vocabulary has grown; it cannot have.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    # PEFT's model card is a form with nothing filled in.
    (folder / "README.md").unlink(missing_ok=True)
    return folder
