"""A base model for a baseline or the Lab: on the CPU, in float32, and only if its weights are small."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _
from worker.engine.models.hub import hub
from worker.engine.models.load import load_config, load_tokenizer

MOST_WEIGHT_BYTES = 3 * 2**30
"""Largest size of the weights in float32, in bytes; the process may use twice as much."""


class Located(Protocol):
    """A request that names a base model."""

    @property
    def location(self) -> str:
        """Directory or hub id."""

    @property
    def revision(self) -> str:
        """The commit."""


def load_small(request: Located, auto: Any, load_processor: Callable[[Path], Any] = load_tokenizer) -> tuple[Any, Any]:
    """Tokenizer, or image processor, and model, by a class such as `AutoModel`. Raises `RunFailed` if it is too large
    or cannot be loaded."""
    config = load_config(request.location, request.revision)
    folder, cached = Path(request.location), None
    if folder.is_absolute():
        stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    else:
        cached = hub.resolve(request.location, request.revision)
        stored = sum(file.bytes for file in cached.files if file.name.endswith(".safetensors"))
    half = str(config.dtype).removeprefix("torch.") in ("bfloat16", "float16")
    weights = stored * (2 if half else 1)  # they are loaded in float32
    if weights > MOST_WEIGHT_BYTES:
        text = _(
            "The base model's weights take %(size)s GiB in float32, and this process has room for %(limit)s GiB.",
            size=f"{weights / 2**30:.1f}",
            limit=MOST_WEIGHT_BYTES >> 30,
        )
        raise impossible(text)
    if cached is not None:
        folder = hub.download(request.location, cached.commit, cached.files, lambda _done, _total: None)
    try:
        processor = load_processor(folder)
        loaded: Any = auto.from_pretrained(str(folder), config=config, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, ImportError) as error:
        reason = first_line(error)
        raise impossible(_("The base model could not be loaded (%(reason)s).", reason=reason)) from error
    return processor, loaded.eval()


def impossible(text: Message) -> RunFailed:
    """A baseline that cannot be computed, with the reason."""
    return RunFailed(FailureCode.BAD_CONFIGURATION, text)
