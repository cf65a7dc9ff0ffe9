"""The form of a new study: kept exactly as it was typed, edited by named buttons, and read as a StudySpec."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import FormData

from app.domain.errors import Invalid
from app.domain.methods import METHODS
from app.domain.runs import TrainingArguments
from app.domain.studies import StudySpec
from app.web.forms.arm import ArmForm
from app.web.forms.sentences import sentences
from app.web.i18n import gettext as _
from app.web.numbers import rate

TRAINING_FIELDS = ("num_train_epochs", "per_device_train_batch_size", "max_length")
"""What the form shows of the budget."""
BUDGET_FIELDS = frozenset(f"training.{name}" for name in TrainingArguments.model_fields)
OWN_FIELDS = ("name", "base_model", "dataset", "margin_points", "seeds", "reference")
ARM_FIELD = re.compile(r"arms\.(\d{1,3})\.(.+)")
MOST_ARMS = 32
LONGEST = 500


@dataclass(frozen=True)
class StudyForm:
    """What was typed: by field, and for each arm."""

    values: Mapping[str, str]
    arms: tuple[ArmForm, ...]

    @classmethod
    def new(cls, base_model: str, dataset: str, dataset_title: str) -> "StudyForm":
        """Full fine-tuning against LoRA and a linear probe, with the defaults of each."""
        training = TrainingArguments()
        values = {
            "name": _("%(data)s on %(model)s", data=dataset_title, model=base_model) if base_model and dataset else "",
            "base_model": base_model,
            "dataset": dataset,
            "margin_points": "1",
            "seeds": "3",
            "reference": "",
        } | {f"training.{name}": rate(getattr(training, name)) for name in TRAINING_FIELDS}
        return cls(values, tuple(ArmForm.new(kind) for kind in METHODS))

    @classmethod
    def of(cls, spec: StudySpec) -> "StudyForm":
        """A study again; what the form does not show is carried along."""
        plain = spec.seeds == list(range(len(spec.seeds)))
        listed = ", ".join(map(str, spec.seeds)) + ("," if len(spec.seeds) == 1 else "")
        training = spec.training.model_dump(mode="json", exclude={"seed", "learning_rate"}, exclude_none=True)
        usual = TrainingArguments().model_dump(mode="json")
        values = {
            "name": spec.name,
            "base_model": spec.base_model,
            "dataset": spec.dataset,
            "margin_points": rate(spec.margin_points),
            "seeds": str(len(spec.seeds)) if plain else listed,
            "reference": spec.reference,
        } | {
            f"training.{name}": rate(value) if isinstance(value, float) else str(value)
            for name, value in training.items()
            if name in TRAINING_FIELDS or value != usual[name]
        }
        return cls(values, tuple(ArmForm.of(arm) for arm in spec.arms))

    @classmethod
    def typed(cls, form: FormData) -> "StudyForm":
        """From a request's form. Unknown names are dropped, arms keep their order, too much is cut."""
        texts = {name: value.strip()[:LONGEST] for name, value in form.multi_items() if isinstance(value, str)}
        known = {n: v for n, v in texts.items() if n in OWN_FIELDS or n in BUDGET_FIELDS}
        by_arm: dict[int, dict[str, str]] = {}
        for name, value in texts.items():
            if match := ARM_FIELD.fullmatch(name):
                by_arm.setdefault(int(match[1]), {})[match[2]] = value
        arms = [
            ArmForm.typed(values["method.kind"], values)
            for _place, values in sorted(by_arm.items())
            if values.get("method.kind") in METHODS
        ]
        return cls(dict.fromkeys(OWN_FIELDS, "") | known, tuple(arms[:MOST_ARMS]))

    def edited(self, action: str) -> "StudyForm":
        """What a named button does: `add:lora`, `copy:1`, `remove:1`, `seeds:5`, `margin:1.5`. Others do nothing."""
        verb, _colon, what = action.partition(":")
        if verb in ("seeds", "margin"):
            field = "margin_points" if verb == "margin" else "seeds"
            return replace(self, values=dict(self.values) | {field: what[:LONGEST]})
        if verb == "add" and what in METHODS and len(self.arms) < MOST_ARMS:
            return replace(self, arms=(*self.arms, ArmForm.new(what).unlike(self.arms)))
        if verb not in ("copy", "remove") or not what.isdecimal() or int(what) >= len(self.arms):
            return self
        before, arm, after = self.arms[: int(what)], self.arms[int(what)], self.arms[int(what) + 1 :]
        if verb == "copy" and len(self.arms) < MOST_ARMS:
            return replace(self, arms=(*before, arm, arm.unlike(self.arms), *after))
        return replace(self, arms=before + after)

    @property
    def carried(self) -> dict[str, str]:
        """Fields of the budget that are not shown and must not be lost."""
        shown = {f"training.{name}" for name in TRAINING_FIELDS} | set(OWN_FIELDS)
        return {name: value for name, value in self.values.items() if name not in shown}

    @property
    def reference_title(self) -> str:
        """The arm that is the reference unless another is named: the first `full` one, else the first."""
        titles = [arm.title for arm in self.arms]
        if self.values["reference"] in titles:
            return self.values["reference"]
        full = [arm.title for arm in self.arms if arm.kind == "full"]
        return (full or titles or [""])[0]

    def spec(self) -> StudySpec:
        """What it means. Raises Invalid with an error for each field that is wrong."""
        try:
            return StudySpec.model_validate(self._body())
        except ValidationError as error:
            fields = sentences(error.errors())
            raise Invalid("; ".join(field.message for field in fields), fields) from None

    def _body(self) -> dict[str, Any]:
        own = {name: self.values[name] for name in ("name", "base_model", "dataset", "reference")}
        body: dict[str, Any] = own | {"arms": [arm.body() for arm in self.arms], "training": {}}
        if margin := self.values["margin_points"]:
            body["margin_points"] = margin.replace(",", ".")
        if seeds := self.values["seeds"]:
            body["seeds"] = _seeds(seeds)
        for name, text in self.values.items():
            if name.startswith("training.") and text:
                body["training"][name.removeprefix("training.")] = text.replace(",", ".")
        return body


def _seeds(text: str) -> list[Any] | str:
    """`3` is a number of seeds; `0, 1, 2` and `7,` are seeds."""
    if text.isdecimal():
        return list(range(min(int(text), 1000)))
    parts = text.replace(",", " ").split()
    return parts if all(part.isdecimal() for part in parts) else text
