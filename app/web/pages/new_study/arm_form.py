"""An arm of a study's form. Which fields it has is said by its method's spec and by `ArmSpec`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from app.domain.methods import METHODS, SPECS, AnyMethod, Family
from app.domain.studies.arms import ArmSpec
from app.web.format import rate
from app.web.forms.fields import Field, fields_of

METHOD = "method."
"""Before the names of the method's own fields."""
SHARED = {field.name: field for field in fields_of(ArmSpec)}
"""What every arm has: its learning rate, its weight decay, its name."""


@dataclass(frozen=True)
class ArmForm:
    """What was typed for an arm, by field below `arms.N.`."""

    kind: str
    values: Mapping[str, str]

    @classmethod
    def new(cls, kind: str) -> "ArmForm":
        """An arm with its method's defaults."""
        values = {f"{METHOD}{field.name}": field.default for field in fields_of(SPECS[kind])}
        return cls(kind, values | dict.fromkeys(SHARED, "") | {"learning_rate": rate(METHODS[kind].learning_rate)})

    @classmethod
    def of(cls, spec: ArmSpec) -> "ArmForm":
        """From a spec."""
        arm = cls.new(spec.method.kind)
        own = {f"{METHOD}{field.name}": field.written(getattr(spec.method, field.name)) for field in arm.fields}
        shared = {name: field.written(getattr(spec, name)) for name, field in SHARED.items()}
        return replace(arm, values=dict(arm.values) | own | {name: text for name, text in shared.items() if text})

    @classmethod
    def typed(cls, kind: str, values: Mapping[str, str]) -> "ArmForm":
        """From a request; fields that no such arm has are dropped."""
        arm = cls.new(kind)
        return cls(kind, {name: value for name, value in values.items() if name in arm.values})

    @property
    def sent(self) -> list[tuple[str, str]]:
        """What a form sends of it, by field below `arms.N.`."""
        return [(f"{METHOD}kind", self.kind), *self.values.items()]

    @property
    def fields(self) -> tuple[Field, ...]:
        """The method's own."""
        return fields_of(SPECS[self.kind])

    @property
    def family(self) -> Family:
        """Its colour and marker."""
        return METHODS[self.kind].family

    @property
    def title(self) -> str:
        """Its name as far as it can be told from what was typed."""
        method = self.method
        return self.values.get("name") or (method.label if method else METHODS[self.kind].name)

    @property
    def method(self) -> AnyMethod | None:
        """What the method's fields mean; None while one of them is wrong."""
        try:
            return SPECS[self.kind].model_validate(self.body()["method"])
        except ValidationError:
            return None

    def spec(self) -> ArmSpec | None:
        """What all of it means; None while something in it is wrong."""
        try:
            return ArmSpec.model_validate(self.body())
        except ValidationError:
            return None

    def value(self, name: str) -> str:
        """What stands in a field; one that was not sent stands at its default."""
        known = {f"{METHOD}{field.name}": field.default for field in self.fields}
        return self.values.get(name, known.get(name, ""))

    def unlike(self, others: Iterable["ArmForm"]) -> "ArmForm":
        """The same arm made different from the others: twice the rank where it has one, another name for the rest."""
        titles = {arm.title for arm in others}
        arm = self
        while arm.title in titles:
            doubled = arm._doubled()
            arm = doubled if doubled.method and doubled.title != arm.title else arm._renamed(titles)
        return arm

    def _doubled(self) -> "ArmForm":
        """Rank and scale doubled, so that their ratio stays."""
        doubled: dict[str, str] = {}
        for name in ("method.r", "method.lora_alpha", "method.alpha"):
            text = self.values.get(name, "")
            doubled |= {name: str(2 * int(text))} if text.isdecimal() else {}
        return replace(self, values=dict(self.values) | doubled)

    def _renamed(self, titles: set[str]) -> "ArmForm":
        stem = re.sub(r" \d+$", "", self.title)
        number = next(n for n in range(2, 100) if f"{stem} {n}" not in titles)
        return replace(self, values=dict(self.values) | {"name": f"{stem} {number}"})

    def body(self) -> dict[str, Any]:
        """What is checked: what was typed as its field reads it, empty ones left out."""
        method = {f.name: f.read(text) for f in self.fields if (text := self.values.get(f"{METHOD}{f.name}"))}
        shared = {name: field.read(text) for name, field in SHARED.items() if (text := self.values.get(name))}
        return shared | {"method": {"kind": self.kind} | method}


def sent(arms: Iterable[ArmForm]) -> dict[str, str]:
    """What a form sends of its arms, by field."""
    return {f"arms.{place}.{name}": text for place, arm in enumerate(arms) for name, text in arm.sent}
