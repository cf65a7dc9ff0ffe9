"""An arm in the form of a study. Its fields are those of its method's spec and of `ArmSpec`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from app.domain.methods import METHODS, SPECS, AnyMethod, Family
from app.domain.studies.arms import OVERRIDABLE, ArmSpec
from app.domain.studies.tuning.search_space import SearchSpace
from app.web.forms.errors import validated
from app.web.forms.fields import Field, fields_of

METHOD = "method."
"""Before the names of the method's own fields."""
SHARED = {field.name: field for field in fields_of(ArmSpec)}
"""Fields of every arm: its learning rate, its weight decay, its name."""
SEARCH = {f"search.{field.name}": field for field in fields_of(SearchSpace)}
"""Fields of its search space."""
RANK_FIELDS = ("method.r", "method.lora_alpha", "method.alpha")


@dataclass(frozen=True)
class ArmForm:
    """The text of an arm's fields, by their names below `arms.N.`."""

    kind: str
    values: Mapping[str, str]

    @classmethod
    def new(cls, kind: str) -> "ArmForm":
        values = {f"{METHOD}{field.name}": field.default for field in fields_of(SPECS[kind])}
        return cls(kind, values | dict.fromkeys((*SHARED, *SEARCH), ""))

    @classmethod
    def of(cls, spec: ArmSpec) -> "ArmForm":
        arm = cls.new(spec.method.kind)
        method = {f"{METHOD}{field.name}": field.written(getattr(spec.method, field.name)) for field in arm.fields}
        shared = {name: text for name, field in SHARED.items() if (text := field.written(getattr(spec, name)))}
        dimensions = spec.search.dimensions if spec.search else {}
        search = {f"search.{name}": SEARCH[f"search.{name}"].written(d) for name, d in dimensions.items()}
        return arm.with_values(method | shared | search)

    @classmethod
    def typed(cls, kind: str, values: Mapping[str, str]) -> "ArmForm":
        """From a request; names that no such arm has are dropped."""
        known = cls.new(kind).values
        return cls(kind, {name: value for name, value in values.items() if name in known})

    def with_values(self, values: Mapping[str, str]) -> "ArmForm":
        return replace(self, values=dict(self.values) | dict(values))

    def with_method(self, method: AnyMethod) -> "ArmForm":
        """With another method and its default rate; keeps the training arguments, and what is searched as far as the
        method has it."""
        spec = ArmSpec(method=method)
        without = {"search.r": spec.rank_field is None, "search.lora_alpha": spec.alpha_field is None}
        paths = [path for path in (*OVERRIDABLE, *SEARCH) if not without.get(path)]
        return ArmForm.of(spec).with_values({path: text for path in paths if (text := self.values.get(path))})

    @property
    def fields(self) -> tuple[Field, ...]:
        return fields_of(SPECS[self.kind])

    @property
    def family(self) -> Family:
        return METHODS[self.kind].family

    @property
    def title(self) -> str:
        """Its own name, or its method's label, as far as its fields are valid."""
        method = self.method
        return self.values.get("name") or (method.label if method else METHODS[self.kind].name)

    @property
    def method(self) -> AnyMethod | None:
        """The method; None while one of its fields is wrong."""
        try:
            return SPECS[self.kind].model_validate(self.body()["method"])
        except ValidationError:
            return None

    def spec(self) -> ArmSpec:
        """The arm. Raises Invalid with an error for each wrong field."""
        return validated(ArmSpec, self.body())

    def distinct_from(self, others: Iterable["ArmForm"]) -> "ArmForm":
        """The same arm. If another arm has its name, its own name is removed, and rank and scale are doubled until its
        label is unique."""
        taken = {title for other in others for title in (other.title, other.with_values({"name": ""}).title)}
        if self.title not in taken:
            return self
        arm = self.with_values({"name": ""})
        while arm.title in taken:
            doubled = {
                name: str(2 * int(text)) for name in RANK_FIELDS if (text := arm.values.get(name, "")).isdecimal()
            }
            larger = arm.with_values(doubled)
            if not doubled or larger.method is None:
                break
            arm = larger
        return arm

    def body(self) -> dict[str, Any]:
        """The spec to validate; empty fields are left out."""
        method = {f.name: f.read(text) for f in self.fields if (text := self.values.get(f"{METHOD}{f.name}"))}
        shared = {name: field.read(text) for name, field in SHARED.items() if (text := self.values.get(name))}
        search = {field.name: field.read(text) for path, field in SEARCH.items() if (text := self.values.get(path))}
        return shared | ({"search": search} if search else {}) | {"method": {"kind": self.kind} | method}
