"""The form of a memory map, as it stands in an address, with defaults for the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from app.domain.errors import Invalid
from app.domain.messages import Message, choose_from
from app.domain.models.base_model import ModelFacts
from app.domain.resources.memory_map import MapSpec
from app.web.forms.errors import validated

LENGTHS = (64, 128, 256, 512, 1024, 2048)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
METHODS = ("full", "lora")
PRECISIONS: dict[str, bool | None] = {"": None, "true": True, "false": False}
"""Values of `bf16` in the address: bfloat16 if the device supports it, bfloat16, float32."""
MOST = 20


@dataclass(frozen=True)
class MapForm:
    task: str
    device: str
    methods: tuple[str, ...]
    lengths: str
    batch_sizes: str
    bf16: str = ""
    """One of PRECISIONS, unless the address is wrong."""
    checkpointing: bool = False

    @classmethod
    def of(cls, facts: ModelFacts, query: QueryParams) -> "MapForm":
        task = query.get("task", "")
        return cls(
            task=task if task in facts.tasks else next(iter(facts.tasks), ""),
            device=query.get("device", "")[:120],
            methods=tuple(dict.fromkeys(query.getlist("methods")[:MOST])) or METHODS,
            lengths=_listed(query.getlist("lengths")) or _default_lengths(facts),
            batch_sizes=_listed(query.getlist("batch_sizes")) or ", ".join(map(str, BATCH_SIZES)),
            bf16=query.get("bf16", "")[:20],
            checkpointing=query.get("gradient_checkpointing") == "true",
        )

    @property
    def query(self) -> str:
        """Query of the address, with the API's names."""
        fields: list[tuple[str, str]] = [("task", self.task), ("device", self.device)]
        fields += [("methods", method) for method in self.methods]
        fields += [("lengths", number) for number in _numbers(self.lengths)]
        fields += [("batch_sizes", number) for number in _numbers(self.batch_sizes)]
        fields += [("bf16", self.bf16)]
        fields += [("gradient_checkpointing", "true")] if self.checkpointing else []
        return urlencode([(name, value) for name, value in fields if value])

    def spec(self, base_model: str) -> MapSpec:
        """What to map. Raises Invalid with an error for each field that is wrong."""
        if self.bf16 not in PRECISIONS:
            what = Message("%(value)r is not a precision", value=self.bf16)
            raise Invalid.field("bf16", what, choose_from(["true (bfloat16)", "false (float32)"]))
        values: dict[str, Any] = {
            "base_model": base_model,
            "task": self.task,
            "device": self.device,
            "methods": self.methods,
            "lengths": _numbers(self.lengths),
            "batch_sizes": _numbers(self.batch_sizes),
            "bf16": PRECISIONS[self.bf16],
            "gradient_checkpointing": self.checkpointing,
        }
        return validated(MapSpec, values)


def _numbers(text: str) -> list[str]:
    return text.replace(",", " ").split()[:MOST]


def _listed(values: Sequence[str]) -> str:
    """One field may hold several numbers, and an address may have it several times."""
    return ", ".join(_numbers(" ".join(values[:MOST])[:200]))


def _default_lengths(facts: ModelFacts) -> str:
    longest = facts.max_positions or LENGTHS[-1]
    return ", ".join(str(length) for length in LENGTHS if length <= longest) or str(longest)
