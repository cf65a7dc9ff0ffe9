"""The structure of a model, read from the model itself: base model, head, blocks, linear layers.

transformers puts the base model under one attribute, `base_model_prefix` (`bert`, `roberta`, `transformer`); in a
classifier every other direct child belongs to the classification head. Some heads have several parts: DistilBERT's is
`pre_classifier` and `classifier`, DeBERTa's is `pooler` and `classifier`. All of them are randomly initialized, so all
of them must train. A language model's head is its output projection, which the checkpoint includes.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from typing import Any

import peft.utils.constants as peft_tables
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.models.architecture import LinearFacts, ParameterFacts, TaskModel
from app.domain.runs.result import Parameters
from app.domain.tasks import TASKS, Task
from worker.engine.data.images import shape_in
from worker.engine.models.quantized.quantization import shape

_TARGETS = "TRANSFORMERS_MODELS_TO_"
_OF_TEXT = {"text_config", "encoder", "decoder"}
"""Sub-configurations that may describe the text model itself."""


def built_on_meta(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """A model on torch's `meta` device. Its initialization is left out: the values do not exist, but to call torch's
    random functions for each tensor took most of the time."""
    with torch.device("meta"), no_init_weights():
        model = build()
    model.tie_weights()  # which would be a part of the initialization
    return model


def describe(model: PreTrainedModel, task: Task) -> TaskModel:
    """Describe a model for the methods; real or on `meta`, before any method is applied to it.

    Raises `RunFailed(bad_configuration)` for a multimodal model, or if its configuration lacks what methods need.
    """
    other_parts = sorted(set(model.config.sub_configs) - _OF_TEXT)
    if other_parts:
        text = _(
            "A model of type %(type)r has parts beside its text model (%(parts)s). Choose a model of the same family "
            "that reads only text.",
            type=model.config.model_type,
            parts=", ".join(other_parts),
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    config = model.config.get_text_config(decoder=True)  # an encoder-decoder's configuration describes its encoder
    head, lists, heads = head_names(model, task), _block_lists(model), _number(config, "num_attention_heads")
    hidden, shared = _number(config, "hidden_size"), _key_value_heads(config, heads)
    blocks = [block for blocks in lists for block in blocks]
    width = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or hidden // heads
    return TaskModel(
        task=task,
        architecture=type(model).__name__,
        model_type=model.config.model_type,
        parameters=[ParameterFacts(name=name, shape=shape(p)) for name, p in model.named_parameters()],
        head=head,
        linear=_linear(model, head),
        blocks=blocks,
        behind=behind_blocks(model, blocks),
        hidden_size=hidden,
        layers=len(lists[-1]) if lists else 0,
        attention_heads=heads,
        key_value_heads=shared,
        key_value_width=shared * width,
        encoder_decoder=bool(model.config.is_encoder_decoder),
        rope_scaling=_rope_scaling(model.config),
        default_targets=default_targets(model.config.model_type),
    )


def _rope_scaling(config: Any) -> str:
    """The type of scaled rotary embeddings, of which a model may have several by the type of its layers."""
    rope = getattr(config, "rope_parameters", None) or {}
    parts = [part for part in rope.values() if isinstance(part, dict)] or [rope]
    return next((kind for part in parts if (kind := part.get("rope_type", "default")) != "default"), "")


def _number(config: Any, name: str) -> int:
    """A size that every configuration should have, by its common name."""
    number = getattr(config, name, None)
    if not isinstance(number, int):
        text = _(
            "The configuration of a model of type %(type)r has no single integer %(name)s. Choose another base model.",
            type=config.model_type,
            name=name,
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    return number


def _key_value_heads(config: Any, heads: int) -> int:
    """Number of key-value heads: fewer than attention heads with grouped-query attention (Ainslie et al. 2023, arXiv
    2305.13245), one with multi-query attention (Shazeer 2019, arXiv 1911.02150)."""
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    return getattr(config, "num_key_value_heads", None) or getattr(config, "num_kv_heads", None) or heads


def head_names(model: PreTrainedModel, task: Task) -> list[str]:
    """Attribute names of the modules with parameters that the task adds; none for language models."""
    if not TASKS[task].adds_head:
        return []
    return [
        name
        for name, child in model.named_children()
        if name != model.base_model_prefix and any(True for _parameter in child.parameters())
    ]


def default_targets(model_type: str) -> dict[str, list[str]]:
    """PEFT's default target modules for an architecture, by PEFT type in lower case; `ia3_feedforward` beside `ia3`."""
    targets = {}
    for name, table in vars(peft_tables).items():
        if name.startswith(_TARGETS) and isinstance(table, dict) and model_type in table:
            chosen = table[model_type]
            kind = name.removeprefix(_TARGETS).removesuffix("_MODULES_MAPPING").removesuffix("_TARGET").lower()
            if isinstance(chosen, list):
                targets[kind] = chosen
    return targets


def _linear(model: PreTrainedModel, head: list[str]) -> list[LinearFacts]:
    """Every linear layer of the base model, without the head and the output projection."""
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    layers = []
    for name, module in model.named_modules():
        if module is output or name.split(".")[0] in head:
            continue
        if isinstance(module, nn.Linear):
            shape, transposed = (module.in_features, module.out_features), False
        elif isinstance(module, Conv1D):  # GPT-2's linear layer; its weight is stored as [in, out]
            shape, transposed = (module.weight.shape[0], module.weight.shape[1]), True
        else:
            continue
        layers.append(
            LinearFacts(
                name=name,
                in_features=shape[0],
                out_features=shape[1],
                bias=module.bias is not None,
                transposed=transposed,
            )
        )
    return layers


def block_names(model: nn.Module) -> list[str]:
    """Names of the transformer blocks in order: the longest list of modules of one class that is in no other list."""
    lists: list[str] = []
    longest: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not name.startswith(tuple(f"{outer}." for outer in lists)):
            lists.append(name)
            if len(module) > len(longest) and len({type(block) for block in module}) == 1:
                longest = [f"{name}.{i}" for i in range(len(module))]
    return longest


def _block_lists(model: PreTrainedModel) -> list[list[str]]:
    """The stacks of transformer blocks: the longest module list of one class, or two in an encoder-decoder."""
    stacks = [
        [f"{name}.{i}" for i in range(len(module))]
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module)
        and len({type(block) for block in module}) == 1
        # A list within a block (T5's sublayers, experts) is no stack of blocks.
        and not any(part.isdigit() for part in name.split("."))
    ]
    if model.config.is_encoder_decoder:
        return stacks
    return [max(stacks, key=len)] if stacks else []


_TOKENS = 4


class _Yes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers every request for a tensor's value with 1. Models ask whether a mask is full, which `meta` cannot
    know."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1
        return func(*args, **(kwargs or {}))


def behind_blocks(model: PreTrainedModel, blocks: Sequence[str]) -> list[str] | None:
    """Names of the modules that first run after the last block has last run. A copy on `meta` runs, not the model.

    The declaration order is not reliable: OPT declares its final norm before its blocks, and BART's decoder declares
    one that runs before them after them.

    None if the copy fails earlier. A failure behind the blocks is harmless: BART's head selects rows by token values,
    which `meta` does not have.

    Models of one class and configuration have the same ones: a map of estimates and a group of runs ask repeatedly.
    """
    if not blocks:
        return None
    config = model.config
    key = (type(model), config._attn_implementation, config.to_json_string(use_diff=False), *blocks)
    if key not in _behind:
        if len(_behind) == _MOST_KEPT:
            _behind.clear()
        _behind[key] = _behind_blocks(model, blocks)
    found = _behind[key]
    return None if found is None else list(found)


_behind: dict[tuple[object, ...], list[str] | None] = {}
_MOST_KEPT = 64


def _behind_blocks(model: PreTrainedModel, blocks: Sequence[str]) -> list[str] | None:
    """By a copy with two blocks of each stack, since a forward pass takes 15 ms a block; by a whole one if that
    fails."""
    shortened = {name.rpartition(".")[0] for name in blocks}
    return _reached_after(model, blocks, shortened) or _reached_after(model, blocks, set())


def _reached_after(model: PreTrainedModel, blocks: Sequence[str], shortened: set[str]) -> list[str] | None:
    """The modules that a copy of the model first runs after its last block; of the stacks in `shortened` it has the
    first and the last block only."""
    try:
        twin: Any = built_on_meta(lambda: type(model)(copy.deepcopy(model.config)))
    except MemoryError:  # the limit of the process, which its caller reports
        raise
    except Exception:  # an architecture may raise anything on meta
        return None
    last = twin.get_submodule(blocks[-1])
    for stack in shortened:
        whole = twin.get_submodule(stack)
        del whole[1:-1]
    called: dict[str, None] = {}
    ended: list[int] = []
    with ExitStack() as hooks, torch.no_grad(), torch.random.fork_rng([]):
        for name, module in twin.named_modules():
            hooks.enter_context(module.register_forward_pre_hook(_noting(name, called)))
        hooks.enter_context(last.register_forward_hook(lambda *_: ended.append(len(called))))
        try:
            with _Yes():  # type: ignore[no-untyped-call]
                twin.eval()(**_inputs(twin))
        except MemoryError:
            raise
        except Exception:  # noqa: S110 `ended` shows how far it got
            pass
    if not ended:
        return None
    return list(called)[ended[-1] :]


def _noting(name: str, called: dict[str, None]) -> Any:
    def note(module: nn.Module, arguments: object) -> None:
        called.setdefault(name)

    return note


def _inputs(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    if model.main_input_name == "pixel_values":
        return {"pixel_values": torch.zeros((1, *shape_in(model.config)), device="meta")}
    ids = torch.zeros((1, _TOKENS), dtype=torch.int64, device="meta")
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return inputs | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})


def count(model: nn.Module, groups: Mapping[str, str]) -> Parameters:
    """Count the model's parameters; a tied one counts once, a packed one with its unpacked size. `groups` gives the
    group of each trainable one."""
    by_group: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            by_group[groups[name]] = by_group.get(groups[name], 0) + parameter.numel()
    total = sum(prod(shape(p)) for p in model.parameters())
    return Parameters(total=total, trainable=sum(by_group.values()), by_module=by_group)
