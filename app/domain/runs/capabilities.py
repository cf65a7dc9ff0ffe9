"""Capabilities that not every worker has. A method names those it needs; a worker reports its own when it starts."""

from typing import Literal, NamedTuple

from app.domain.messages import Message, _

Capability = Literal["qlora", "adamw-8bit"]


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
}
