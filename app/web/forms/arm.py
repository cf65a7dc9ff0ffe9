"""An arm of a study's form."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from app.domain.methods import METHODS, Family, FullSpec, HeadOnlySpec, LoraSpec
from app.domain.studies import ArmSpec
from app.web.numbers import rate

SPECS: dict[str, type[BaseModel]] = {"full": FullSpec, "lora": LoraSpec, "head-only": HeadOnlySpec}
METHOD_FIELDS = {"lora": ("method.r", "method.lora_alpha", "method.target_modules")}
"""What the form shows of a method besides the rate and the decay."""
SHARED_FIELDS = ("learning_rate", "weight_decay", "name")


@dataclass(frozen=True)
class ArmForm:
    """What was typed for an arm, by field below `arms.N.`."""

    kind: str
    values: Mapping[str, str]

    @classmethod
    def new(cls, kind: str) -> "ArmForm":
        """An arm with its method's defaults."""
        values = {"learning_rate": rate(METHODS[kind].learning_rate), "weight_decay": ""}
        if kind == "lora":
            values |= {"method.r": "8", "method.lora_alpha": "16"}
        return cls(kind, values)

    @classmethod
    def of(cls, spec: ArmSpec) -> "ArmForm":
        """From a spec; fields that the form does not show are carried along."""
        arm = cls.new(spec.method.kind)
        values = dict(arm.values)
        if spec.name:
            values["name"] = spec.name
        if spec.learning_rate is not None:
            values["learning_rate"] = rate(spec.learning_rate)
        if spec.weight_decay is not None:
            values["weight_decay"] = rate(spec.weight_decay)
        for name, value in spec.method.model_dump(mode="json", exclude_defaults=True, exclude={"kind"}).items():
            values[f"method.{name}"] = _written(value)
        return cls(spec.method.kind, values)

    @classmethod
    def typed(cls, kind: str, values: Mapping[str, str]) -> "ArmForm":
        """From a request; fields that no such arm has are dropped."""
        fields = {f"method.{name}" for name in SPECS[kind].model_fields if name != "kind"} | set(SHARED_FIELDS)
        return cls(kind, {name: value for name, value in values.items() if name in fields})

    @property
    def family(self) -> Family:
        """Its colour and marker."""
        return METHODS[self.kind].family

    @property
    def title(self) -> str:
        """Its name as far as it can be told from what was typed."""
        if name := self.values.get("name"):
            return name
        known = METHODS[self.kind].name
        if self.kind != "lora":
            return known
        variant = (
            "DoRA" if "method.use_dora" in self.values else "rsLoRA" if "method.use_rslora" in self.values else known
        )
        return f"{variant} r={self.values.get('method.r', '')}"

    @property
    def shown(self) -> tuple[str, ...]:
        """Fields that the form shows, in order."""
        return METHOD_FIELDS.get(self.kind, ()) + SHARED_FIELDS

    @property
    def carried(self) -> dict[str, str]:
        """Fields that it does not show and must not lose."""
        return {name: value for name, value in self.values.items() if name not in self.shown}

    def unlike(self, others: tuple["ArmForm", ...]) -> "ArmForm":
        """The same arm made different from the others: twice the rank of LoRA, another name for the rest."""
        titles = {arm.title for arm in others}
        arm = self
        while arm.title in titles:
            arm = (
                arm._doubled()
                if self.kind == "lora" and self._rank and not self.values.get("name")
                else arm._renamed(titles)
            )
        return arm

    @property
    def _rank(self) -> int:
        text = self.values.get("method.r", "")
        return int(text) if text.isdecimal() else 0

    def _doubled(self) -> "ArmForm":
        alpha = self.values.get("method.lora_alpha", "")
        change = {"method.r": str(2 * self._rank)} | (
            {"method.lora_alpha": str(2 * int(alpha))} if alpha.isdecimal() else {}
        )
        return replace(self, values=dict(self.values) | change)

    def _renamed(self, titles: set[str]) -> "ArmForm":
        stem = re.sub(r" \d+$", "", self.title)
        number = next(n for n in range(2, 100) if f"{stem} {n}" not in titles)
        return replace(self, values=dict(self.values) | {"name": f"{stem} {number}"})

    def body(self) -> dict[str, Any]:
        """What is checked: texts as they are, empty ones left out, lists taken apart."""
        arm: dict[str, Any] = {"method": {"kind": self.kind}}
        for name, text in self.values.items():
            if not text:
                continue
            if name.startswith("method."):
                arm["method"][name.removeprefix("method.")] = (
                    _modules(text) if name.endswith("target_modules") else text
                )
            else:
                arm[name] = text if name == "name" else text.replace(",", ".")
        return arm


def _modules(text: str) -> str | list[str]:
    names = text.replace(",", " ").split()
    return names[0] if names == ["all-linear"] else names


def _written(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
