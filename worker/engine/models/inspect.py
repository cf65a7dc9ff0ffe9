"""Inspect a base model without loading it: build its configuration on torch's `meta` device, which allocates
nothing."""

from pathlib import Path
from typing import Any

from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _
from app.domain.models.architecture import LABELS, ParameterFacts, TaskModel
from app.domain.models.base_model import FACTS_VERSION, LONGEST_TEMPLATE, ModelFacts, ModelFile, TokenizerFacts
from app.domain.tasks import Task
from worker.engine.data.batches.batches import most_tokens, positions
from worker.engine.data.chats.parts import rendered_parts
from worker.engine.estimation.unloaded import on_meta
from worker.engine.models.architecture import describe
from worker.engine.models.hub import hub
from worker.engine.models.hub.headers import check_headers, on_disk
from worker.engine.models.load import check_task, load_config, load_tokenizer
from worker.engine.models.quantized.quantization import shape
from worker.engine.models.weights import chosen_weights, fingerprint
from worker.engine.tasks import TASKS


def inspect(location: str, revision: str = "") -> ModelFacts:
    """Facts of a model in a directory, or of a commit on the hub, of which only configuration and tokenizer are
    downloaded. Raises `RunFailed` as `load_config` does, and for a model without loadable weights."""
    if Path(location).is_absolute():
        config = load_config(location, revision)
        folder, files, restricted = Path(location), _files(Path(location)), False
        check_headers([on_disk(folder / file.name) for file in files])
        pinned = fingerprint(folder)
    else:
        folder, pinned, files, restricted = hub.resolve(location, revision)
        config = load_config(location, pinned)
        hub.check_weights(location, pinned, files)
    update: dict[str, object] = {"revision": pinned, "files": files, "restricted": restricted}
    if tokenizer := _tokenizer(folder):
        update |= {
            "chat_template": bool(tokenizer.chat_template),
            "chat_parts": rendered_parts(tokenizer),
            "max_positions": most_tokens(config, tokenizer),
            "tokenizer": _described(tokenizer),
        }
    return facts_of(config).model_copy(update=update)


def _files(directory: Path) -> list[ModelFile]:
    sizes = {p.name: p.stat().st_size for p in directory.iterdir() if p.is_file()}
    return [ModelFile(name=name, bytes=sizes[name]) for name in chosen_weights("", directory, sizes)]


def facts_of(config: PreTrainedConfig) -> ModelFacts:
    """Facts that follow from the configuration alone. Raises `RunFailed(bad_configuration)` if it supports no task."""
    able: dict[Task, TaskModel] = {}
    unable: dict[Task, str] = {}
    for task in TASKS:
        try:
            able[task] = on_task(config, task)
        except RunFailed as error:
            unable[task] = error.message
    if not able:
        text = _(
            "A model of type %(type)r supports none of %(tasks)s. %(reasons)s",
            type=config.model_type,
            tasks=", ".join(TASKS),
            reasons=Message.joined(dict.fromkeys(unable.values())),
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    base = _labelled(config, AutoModel)
    described = next(iter(able.values()))
    return ModelFacts(
        version=FACTS_VERSION,
        architecture=type(base).__name__,
        model_type=config.model_type,
        parameters=sum(p.numel() for p in base.parameters()),
        hidden_size=described.hidden_size,
        layers=getattr(config.get_text_config(decoder=True), "num_hidden_layers", described.layers),
        max_positions=positions(config),
        tasks=able,
        unable=unable,
        dtype=str(config.dtype or "").removeprefix("torch."),
    )


def on_task(config: PreTrainedConfig, task: Task) -> TaskModel:
    """Describe the model with the task's head. Dimensions of the head that depend on the number of labels become
    LABELS; they are found by comparing 2 with 3 labels.

    Raises `RunFailed(bad_configuration)` if the architecture does not support the task.
    """
    check_task(config, task)
    described = describe(_labelled(config, TASKS[task].AUTO), task)
    if not described.head:
        return described
    other = _labelled(config, TASKS[task].AUTO, labels=3)
    shapes = zip(described.parameters, map(shape, other.parameters()), strict=True)
    marked = [
        ParameterFacts(name=p.name, shape=tuple(LABELS if a != b else a for a, b in zip(p.shape, q, strict=True)))
        for p, q in shapes
    ]
    return described.model_copy(update={"parameters": marked})


def _labelled(config: PreTrainedConfig, auto: Any, labels: int = 2) -> PreTrainedModel:
    """The model with this many labels, on `meta`."""
    config.num_labels = labels
    return on_meta(config, auto)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    try:
        return load_tokenizer(folder)
    except (OSError, ValueError, ImportError):
        return None  # the run reports it when it needs the tokenizer


def _described(tokenizer: PreTrainedTokenizerBase) -> TokenizerFacts:
    template = tokenizer.chat_template
    if isinstance(template, dict):  # this one is the default of several named templates
        template = template.get("default", "")
    special = {
        name: str(token)
        for name in tokenizer.SPECIAL_TOKENS_ATTRIBUTES
        if isinstance(name, str) and (token := getattr(tokenizer, name, None)) and not isinstance(token, list)
    }
    return TokenizerFacts(
        kind=type(tokenizer).__name__,
        vocabulary=len(tokenizer),
        special=special,
        template=str(template or "")[:LONGEST_TEMPLATE],
    )
