"""The question of a map, as it stands in an address: what was asked for, or what is usual for the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError

from app.domain.errors import Invalid
from app.domain.messages import Message, choose_from
from app.domain.models.base_model import ModelFacts
from app.domain.resources.memory_map import MapSpec
from app.domain.runs.training import TrainingArguments
from app.web.forms.sentences import sentences

LENGTHS = (64, 128, 256, 512, 1024, 2048)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
METHODS = ("full", "lora")
FORMATS: dict[str, bool | None] = {"": None, "true": True, "false": False}
"""Values of the address's `bf16`: as the device can, bfloat16, float32."""
MOST = 20


@dataclass(frozen=True)
class MapForm:
    """What stands in the fields."""

    task: str
    device: str
    methods: tuple[str, ...]
    lengths: str
    batch_sizes: str
    bf16: str = ""
    """Of FORMATS, or whatever the address says."""
    checkpointing: bool = False

    @classmethod
    def of(cls, facts: ModelFacts, asked: Mapping[str, Sequence[str]]) -> "MapForm":
        """From an address; what it does not say is as usual."""
        task = next(iter(asked.get("task", ())), "")
        return cls(
            task=task if task in facts.tasks else next(iter(facts.tasks), ""),
            device=next(iter(asked.get("device", ())), "")[:120],
            methods=tuple(dict.fromkeys(asked.get("methods", ())[:MOST])) or METHODS,
            lengths=_listed(asked.get("lengths", ())) or _usual(facts),
            batch_sizes=_listed(asked.get("batch_sizes", ())) or ", ".join(map(str, BATCH_SIZES)),
            bf16=next(iter(asked.get("bf16", ())), "")[:20],
            checkpointing="true" in asked.get("gradient_checkpointing", ()),
        )

    @property
    def query(self) -> str:
        """The address's, in the API's words."""
        fields: list[tuple[str, str]] = [("task", self.task), ("device", self.device)]
        fields += [("methods", method) for method in self.methods]
        fields += [("lengths", number) for number in _numbers(self.lengths)]
        fields += [("batch_sizes", number) for number in _numbers(self.batch_sizes)]
        fields += [("bf16", self.bf16)]
        fields += [("gradient_checkpointing", "true")] if self.checkpointing else []
        return urlencode([(name, value) for name, value in fields if value])

    def question(self, base_model: str) -> MapSpec:
        """What it means. Raises Invalid with an error for each field that is wrong."""
        if self.bf16 not in FORMATS:
            what = Message("%(value)r is not a precision", value=self.bf16)
            raise Invalid.field("bf16", what, choose_from(["true (bfloat16)", "false (float32)"]))
        body: dict[str, Any] = {
            "base_model": base_model,
            "task": self.task,
            "machine": self.device,
            "methods": self.methods,
            "lengths": _numbers(self.lengths),
            "batch_sizes": _numbers(self.batch_sizes),
            "training": TrainingArguments(bf16=FORMATS[self.bf16], gradient_checkpointing=self.checkpointing),
        }
        try:
            return MapSpec.model_validate(body)
        except ValidationError as error:
            fields = sentences(error.errors())
            raise Invalid.of(fields) from None


def _numbers(text: str) -> list[str]:
    return text.replace(",", " ").split()[:MOST]


def _listed(values: Sequence[str]) -> str:
    """One field may hold several numbers, and an address may have it several times."""
    return ", ".join(_numbers(" ".join(values[:MOST])[:200]))


def _usual(facts: ModelFacts) -> str:
    longest = facts.max_positions or LENGTHS[-1]
    return ", ".join(str(length) for length in LENGTHS if length <= longest) or str(longest)
