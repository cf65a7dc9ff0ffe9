"""What not every worker can do. A method names what it needs of one; a worker says what it can when it starts."""

from typing import Literal, NamedTuple

Capability = Literal["qlora"]


class CapabilityFacts(NamedTuple):
    """What is wrong where no worker has it, and what to do."""

    lacking: str
    """Follows the names of the workers: `none of the workers (…) …`."""
    remedy: str


CAPABILITIES: dict[Capability, CapabilityFacts] = {
    "qlora": CapabilityFacts(
        "has bitsandbytes, which holds weights in four bits",
        'install it beside a worker with pip install "vezna[qlora]" and start the worker again, or choose LoRA',
    ),
}
