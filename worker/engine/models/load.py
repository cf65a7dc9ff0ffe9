"""Load a base model for a task, with a new head where the task adds one.

Only safetensors weights, and only code that transformers itself ships: unpickling a `.bin` file and importing a
repository's Python both execute untrusted code.

forward     x ─► block ─► y        x is copied to pinned memory of the host, and its own memory is free
    backward    x ◄─ host              copied back when the block is recomputed, and dropped after it

Without offload the inputs of L blocks are on the device, L · B · T · H values; with it one or two. The numbers are the
same: a copy changes no bit. Copies are queued between the kernels of the pass, so nothing needs another stream or
waits, and the memory of x is reused in order; the time of the copies is added to the step.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.methods import AnyMethod, LeanFullSpec
from app.domain.tasks import TASKS as FACTS
from app.domain.tasks import Task
from worker.engine.data.images import load_image_processor
from worker.engine.memory.ledger import on_the_host
from worker.engine.models.architecture import block_names, built_on_meta, describe, head_names
from worker.engine.models.hub import hub
from worker.engine.models.quantized.quantization import NF4
from worker.engine.models.weights import refuse_unusable, stored_dtype, weight_files, without_weights
from worker.engine.tasks import TASKS


def offload_blocks(model: nn.Module) -> None:
    """Keep the inputs of checkpointed blocks in the host's memory; call it after `checkpoint_blocks`.

    Raises `RunFailed(bad_configuration)` if the blocks of the architecture are not recomputed one by one.
    """
    blocks = [model.get_submodule(name) for name in block_names(model)]
    if not all(hasattr(block, "_gradient_checkpointing_func") for block in blocks):
        raise _unsupported(type(model).__name__)
    for block in blocks:
        vars(block)["_gradient_checkpointing_func"] = partial(_recomputed, type(model).__name__)


class _Kept:
    """A block's input [B, T, H]."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self._hidden: torch.Tensor | None = hidden
        self._device, self._host = hidden.device, torch.empty(0)

    def take(self) -> torch.Tensor:
        """The input itself, or once it has left its values on the device, for the block's recomputation."""
        if self._hidden is not None:
            return self._hidden
        # on a CPU a copy too, so that tests and estimates see the same tensors as a GPU
        back = self._host.to(self._device, non_blocking=True, copy=True)
        return back.requires_grad_()

    def leave(self) -> None:
        """Copy the values to the host."""
        hidden, self._hidden = self._hidden, None
        if hidden is not None:
            with torch.no_grad(), on_the_host():
                pinned = hidden.device.type == "cuda"
                host = torch.empty(hidden.shape, dtype=hidden.dtype, device="cpu", pin_memory=pinned)
                self._host = host.copy_(hidden.detach(), non_blocking=True)


def _recomputed(name: str, run: Callable[..., Any], *args: Any) -> Any:
    """In the place of transformers' checkpointing function: the output of `run`, with the input that it will be run on
    again in the host's memory."""
    if not args or not isinstance(args[0], torch.Tensor):
        raise _unsupported(name)
    kept, others = _Kept(args[0]), args[1:]
    place = args[0].new_empty(0)  # by it, torch knows the device whose random state the recomputation restores
    del args
    output = checkpoint(lambda _place, *rest: run(kept.take(), *rest), place, *others, use_reentrant=False)
    kept.leave()
    return output


def _unsupported(name: str) -> RunFailed:
    text = _(
        "offload_activations: the blocks of %(name)s are not recomputed one by one. Leave it out, or choose another "
        "base model.",
        name=name,
    )
    return RunFailed(FailureCode.BAD_CONFIGURATION, text)


MOST_LAYERS = 1000
"""More than any real model; a configuration beyond it is a mistake."""


class Loaded(NamedTuple):
    """A model that is ready for a method to be applied."""

    model: PreTrainedModel
    processor: Any
    """Its tokenizer, or the image processor of a task that reads images."""
    missing: list[str]
    """Tensors of the base model, without the head, that the checkpoint lacks: they start from random weights."""


def load(location: str, revision: str, task: Task, labels: Sequence[str], seed: int, nf4: NF4 | None = None) -> Loaded:
    """Load base model and processor for a task, in the dtype of the files on the CPU, with a new head over `labels` in
    float32 where the task adds one. With `nf4`, its linear layers are quantized to four bits, and all but the head is
    on the device of `nf4`. `worker.engine.models.precision.settle` gives the tensors the dtypes that they train in.

    The head's weights depend on the seed alone, so all arms of a comparison start from the same ones; a head in the
    checkpoint is replaced. Weights stay mapped from their file until they are first written, so loading needs no second
    copy. Raises `RunFailed` with `model_unavailable` or `bad_configuration`.
    """
    folder = hub.description_folder(location, revision)
    config = load_config(location, revision)
    check_task(config, task)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
    if not weight_files(folder):
        raise without_weights("", [path.name for path in folder.iterdir()])
    torch.manual_seed(seed)
    try:
        processor = load_processor(folder, task)
        model, report = TASKS[task].AUTO.from_pretrained(
            str(folder),
            config=config,
            dtype=stored_dtype(folder),
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # a head with another number of labels; anything else is checked below
            output_loading_info=True,
            attn_implementation=attention(config, task),
            **(_quantized(nf4, config, task) if nf4 else {}),
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise _unavailable(error) from error
    names = head_names(model, task)
    heads = tuple(f"{name}." for name in names)
    wrong = [key for key, *_ in report["mismatched_keys"] if not key.startswith(heads)]
    if wrong:
        raise RunFailed(
            FailureCode.MODEL_UNAVAILABLE,
            _("The weights do not fit the model's config.json: %(name)s has another shape.", name=wrong[0]),
        )
    if nf4:
        nf4.settle(model)
    new_head(model, names, seed)
    if FACTS[task].reads == "texts":
        _give_padding(model, processor)
    return Loaded(model, processor, sorted(k for k in report["missing_keys"] if not k.startswith(heads)))


def checkpoint_blocks(model: PreTrainedModel) -> None:
    """Enable gradient checkpointing for each block (Chen et al. 2016, arXiv 1604.06174).

    Raises `RunFailed(bad_configuration)` if transformers does not support it for the architecture.
    """
    try:
        model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
    except ValueError as error:
        text = _(
            "training.gradient_checkpointing: transformers does not support it for a model of type %(type)r. Leave it "
            "out, and lower per_device_train_batch_size if memory is short.",
            type=model.config.model_type,
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error
    # It has the embeddings' output require a gradient, which only re-entrant checkpointing needs: backward would run
    # through frozen blocks too.
    model.disable_input_require_grads()  # type: ignore[no-untyped-call]


def refuse_offload(method: AnyMethod, device: str) -> None:
    """Raise `RunFailed(bad_configuration)` if activations would leave a CPU."""
    if device == "cpu" and isinstance(method, LeanFullSpec) and method.offload_activations:
        text = _("On a CPU offload_activations saves nothing: its memory is the host's. Leave it out.")
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)


def recompute(model: PreTrainedModel, method: AnyMethod) -> None:
    """`checkpoint_blocks`, with the blocks' inputs where the method keeps them."""
    checkpoint_blocks(model)
    if isinstance(method, LeanFullSpec) and method.offload_activations:
        offload_blocks(model)


def load_config(location: str, revision: str) -> PreTrainedConfig:
    """The configuration alone, without anything that would download or execute untrusted code.

    Raises `RunFailed(model_unavailable)` if it cannot be read or requires code from its repository.
    """
    if Path(location).is_absolute() and not Path(location).is_dir():
        raise RunFailed(FailureCode.MODEL_UNAVAILABLE, _("The base model's directory does not exist on this worker."))
    folder = hub.description_folder(location, revision)
    refuse_unusable("", [path.name for path in folder.iterdir()])
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _unavailable(error) from error
    return harmless(config)


def harmless(config: PreTrainedConfig) -> PreTrainedConfig:
    """Remove from a configuration what only its author's code could use. transformers implements the architecture
    itself, so `auto_map` is dropped. An attention or experts implementation may name a kernel on the hub, which would
    be downloaded and executed; so may the readers of quantized weights, which cannot be trained anyway.

    Raises `RunFailed(bad_configuration)` for quantized weights, and for more layers than any real model has.
    """
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if isinstance(layers, int) and layers > MOST_LAYERS:
        text = _("num_hidden_layers is %(layers)s. Use at most %(limit)s.", layers=layers, limit=MOST_LAYERS)
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    if stored := getattr(config, "quantization_config", None):
        method = stored.get("quant_method", "") if isinstance(stored, dict) else getattr(stored, "quant_method", "")
        text = _(
            "The weights are already quantized (%(method)s). Choose the original of the same model: QLoRA quantizes it "
            "itself.",
            method=method or "quantization_config",
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    parts: list[Any] = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    for part in parts:
        if hasattr(part, "auto_map"):
            del part.auto_map
    config.architectures = config.architectures or []  # of None transformers cannot choose among several classes
    # also set on its sub-configurations
    config._attn_implementation = None
    if hasattr(config, "_experts_implementation"):  # transformers has it since 5.1
        config._experts_implementation = None
    return config


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Raises what transformers raises: OSError, ValueError, ImportError."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    return tokenizer


def load_processor(folder: Path, task: Task) -> Any:
    """The tokenizer, or the image processor of a task that reads images. Raises what transformers raises."""
    return load_image_processor(folder) if FACTS[task].reads == "images" else load_tokenizer(folder)


def padding_of(processor: Any) -> int:
    """The token that pads its batches; images have none."""
    return int(getattr(processor, "pad_token_id", None) or 0)


def check_task(config: PreTrainedConfig, task: Task) -> None:
    """Raise `RunFailed(bad_configuration)` if transformers has no model of the architecture for the task, or the task
    does not support it."""
    if type(config) not in TASKS[task].ARCHITECTURES:
        text = _(
            "transformers has no %(task)s model of type %(type)r. Choose another base model or task.",
            task=task,
            type=config.model_type,
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    if incompatibility := TASKS[task].incompatibility(config):
        raise RunFailed(FailureCode.BAD_CONFIGURATION, incompatibility)


def attention(config: PreTrainedConfig, task: Task) -> str:
    """torch's SDPA where the architecture supports it. Set explicitly, so that a configuration cannot name a kernel on
    the hub."""
    architecture = TASKS[task].ARCHITECTURES[type(config)]
    first = architecture[0] if isinstance(architecture, tuple) else architecture  # DeiT has two for images
    return "sdpa" if getattr(first, "_supports_sdpa", False) else "eager"


def _quantized(nf4: NF4, config: PreTrainedConfig, task: Task) -> dict[str, Any]:
    """Arguments of `from_pretrained` that quantize the base model's linear layers to four bits, except the head's and
    the output projection."""
    model = built_on_meta(lambda: TASKS[task].AUTO.from_config(config))
    base = {layer.name: layer.in_features for layer in describe(model, task).linear}
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    return nf4.options(base.values(), [f"{re.escape(name)}$" for name in linear if name not in base])


def new_head(model: PreTrainedModel, names: Sequence[str], seed: int) -> None:
    """Initialize the head by its architecture's own rule, from the seed alone."""
    torch.manual_seed(seed)
    for name in names:
        # on the CPU in float32 for every device and file: another generator would draw other numbers
        for module in model.get_submodule(name).to("cpu", torch.float32).modules():
            for parameter in module.parameters(recurse=False):
                # transformers skips modules that are marked as loaded or initialized
                parameter._is_hf_initialized = False  # type: ignore[attr-defined]
            model._init_weights(module)  # type: ignore[no-untyped-call]


def _give_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Decoders such as GPT-2 have no padding token; the mask hides it, so any token works."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        text = _(
            "The tokenizer has no padding token, no end-of-text token and no unknown token to pad with. Set pad_token "
            "in its tokenizer_config.json."
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id


def _unavailable(error: Exception) -> RunFailed:
    """The first line of transformers' message, without its advice to trust remote code."""
    if "trust_remote_code" in str(error):
        text = _(
            "The base model needs Python code from its repository, which Vezna never runs. Choose another base model."
        )
    else:
        reason = first_line(error)
        text = _("The base model could not be read. %(reason)s.", reason=reason)
    return RunFailed(FailureCode.MODEL_UNAVAILABLE, text)
