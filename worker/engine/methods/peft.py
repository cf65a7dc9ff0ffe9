"""Everything that PEFT carries out: the method's own file in `app.domain.methods` says which config, and which options.

The new head trains beside the adapter, as in PEFT's `modules_to_save`: a trained copy is kept in the adapter, the
original stays in the model and is not used.
"""

from pathlib import Path

from peft import PeftConfig, PeftModel, PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.domain.architecture import TaskModel
from app.domain.errors import RunFailed
from app.domain.methods import PeftMethod
from app.domain.runs import FailureCode, RunSpec
from worker.engine.tasks import TASKS


def config(spec: PeftMethod, facts: TaskModel) -> PeftConfig:
    """PEFT's config of a method for a model and its task."""
    options = spec.peft_options(facts) | {"task_type": TASKS[facts.task].PEFT_TYPE}
    if facts.head:
        options["modules_to_save"] = facts.head
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(spec.peft_type)]
    return config_class(**options)


def apply(model: PreTrainedModel, spec: PeftMethod, facts: TaskModel) -> PeftModel:
    """The model inside PEFT's wrapper. What PEFT refuses is said in its own words."""
    try:
        return get_peft_model(model, config(spec, facts))
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        what = f"PEFT cannot put {spec.label} on {facts.architecture}: {reason}."
        raise RunFailed(FailureCode.BAD_CONFIGURATION, what) from error


def companion(model: PeftModel, spec: PeftMethod, total_steps: int) -> None:
    """Nothing."""
    return None


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
