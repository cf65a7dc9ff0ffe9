"""Capabilities that not every worker has. A method and training arguments name those they need; a worker reports its
own when it starts."""

from typing import Literal, NamedTuple

from app.domain.messages import Message, _

Capability = Literal["qlora", "adamw-8bit", "compile", "gpu"]


class CapabilityFacts(NamedTuple):
    """What to say where no worker has it."""

    lacking: Message
    """Follows the names of the workers: `none of the workers (…) …`."""
    remedy: Message


CAPABILITIES: dict[Capability, CapabilityFacts] = {
    "qlora": CapabilityFacts(
        _("has bitsandbytes, which QLoRA needs for weights in four bits"),
        _('Install it on a worker with pip install "vezna[qlora]" and restart the worker, or choose LoRA'),
    ),
    "adamw-8bit": CapabilityFacts(
        _("has bitsandbytes, which adamw_bnb_8bit needs for moments in eight bits"),
        _('Install it on a worker with pip install "vezna[qlora]" and restart the worker, or choose another optim'),
    ),
    "compile": CapabilityFacts(
        _("has a compiler, which compile_blocks needs: g++, and triton for a GPU"),
        _("Install it on a worker and restart the worker, or set compile_blocks to false"),
    ),
    "gpu": CapabilityFacts(
        _("has a GPU, and on a CPU offload_activations saves nothing: its memory is the host's"),
        _("Leave offload_activations out, or start a worker with a GPU"),
    ),
}
