"""The form of a study: the text as it was typed, edited by named buttons, and read as a StudySpec."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.domain.methods import METHODS, AnyMethod, MethodSpec
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingBudget, applies
from app.domain.studies.arms import OVERRIDABLE, ArmSpec, arm_names, without_default_names
from app.domain.studies.spec import MOST_ARMS, StudySpec
from app.domain.studies.tuning.tuning import AnyTuning, GridTuning, HalvingTuning, RandomTuning, TpeTuning, TuningSpec
from app.domain.tasks import TASKS, Task
from app.web.forms.errors import validated
from app.web.forms.fields import Field, fields_of, readable
from app.web.forms.sent import MAX_TEXT
from app.web.pages.new_study.arm_form import ArmForm
from app.words.format import typed

TUNING = "tuning."
"""Prefix of the names of tuning's fields."""
TUNINGS: Mapping[str, Mapping[str, Field]] = {
    "none": {},
    "grid": {f"{TUNING}{field.name}": field for field in fields_of(GridTuning)},
    "random": {f"{TUNING}{field.name}": field for field in fields_of(RandomTuning)},
    "halving": {f"{TUNING}{field.name}": field for field in fields_of(HalvingTuning)},
    "tpe": {f"{TUNING}{field.name}": field for field in fields_of(TpeTuning)},
}
"""The fields of each kind of tuning, by path."""
TUNING_PATHS = frozenset((f"{TUNING}kind", f"{TUNING}of", *(path for fields in TUNINGS.values() for path in fields)))
"""Names of its fields in a form: `of` is the kind that the others belong to."""
TRAINING = "training."
"""Before the names of the budget's fields."""
BUDGET = {f"{TRAINING}{field.name}": field for field in fields_of(TrainingBudget)}
"""The fields of the budget, by path."""
OWN_FIELDS = (
    *("name", "base_model", "dataset", "task", "metric", "general_text"),
    *("margin_points", "alternative", "seeds", "reference", "train_together"),
)
ARM_FIELD = re.compile(r"arms\.(\d{1,3})\.(.+)")
MAX_CHANGE = 4000
"""Characters of a change; a list of target modules is the longest."""
METHOD_ADAPTER: TypeAdapter[AnyMethod] = TypeAdapter(MethodSpec)
TUNING_ADAPTER: TypeAdapter[AnyTuning] = TypeAdapter(TuningSpec)


def read_change(text: str) -> tuple[AnyMethod | None, dict[str, bool | int | float]]:
    """The change of a button or an address: another method, and values of the budget. It is JSON, such as
    `{"training.gradient_checkpointing": true}`; anything invalid is ignored."""
    values: object = None
    with suppress(ValueError, RecursionError):
        values = json.loads(text[:MAX_CHANGE])
    if not isinstance(values, dict):
        return None, {}
    method = None
    with suppress(ValidationError):
        method = METHOD_ADAPTER.validate_python(values["method"]) if "method" in values else None
    return method, {n: v for n, v in values.items() if n in BUDGET and isinstance(v, bool | int | float)}


@dataclass(frozen=True)
class StudyForm:
    """The text of every field, by its name, and of every arm."""

    values: Mapping[str, str]
    """`reference` is the place of an arm, or empty."""
    arms: tuple[ArmForm, ...]

    @classmethod
    def new(cls, **values: str) -> "StudyForm":
        """A study with all defaults but for some values, and no arm yet."""
        own = dict.fromkeys(OWN_FIELDS, "") | {"seeds": "3", f"{TUNING}kind": "none"}
        return cls(own | {path: field.default for path, field in BUDGET.items()} | values, ())

    @classmethod
    def of(cls, spec: StudySpec) -> "StudyForm":
        titles = [arm.title for arm in spec.arms]
        counted = spec.seeds == list(range(len(spec.seeds)))
        listed = ", ".join(map(str, spec.seeds)) + ("," if len(spec.seeds) == 1 else "")
        values = {name: str(getattr(spec, name) or "") for name in OWN_FIELDS} | {
            "margin_points": typed(spec.margin_points) if "margin_points" in spec.model_fields_set else "",
            "seeds": str(len(spec.seeds)) if counted else listed,
            "reference": str(titles.index(spec.reference)) if spec.reference else "",
        }
        budget = {path: field.written(getattr(spec.training, field.name)) for path, field in BUDGET.items()}
        tuning = {path: f.written(getattr(spec.tuning, f.name)) for path, f in TUNINGS[spec.tuning.kind].items()}
        arms = tuple(map(ArmForm.of, without_default_names(spec.arms)))
        return cls(values | budget | tuning | {f"{TUNING}kind": spec.tuning.kind}, arms)

    @classmethod
    def of_run(cls, spec: RunSpec, name: str) -> "StudyForm":
        """A run as a study of one arm."""
        training = spec.training
        arm = ArmSpec(method=spec.method, learning_rate=training.learning_rate)
        shared = spec.model_dump(include={"base_model", "dataset", "task", "metric", "general_text"})
        budget = TrainingBudget(**training.model_dump(exclude={"learning_rate", "seed"}))
        return cls.of(StudySpec(**shared, name=name, arms=[arm], seeds=[training.seed], training=budget))

    @classmethod
    def typed(cls, form: Mapping[str, str]) -> "StudyForm":
        """From a request. Unknown names are dropped, arms keep their order, texts are cut to their maximum."""
        texts = {name: value.strip()[:MAX_TEXT] for name, value in form.items()}
        known = {n: v for n, v in texts.items() if n in OWN_FIELDS or n in BUDGET or n in TUNING_PATHS}
        if known.pop(f"{TUNING}of", "") != known.get(f"{TUNING}kind", ""):  # another kind has other defaults
            known = {n: v for n, v in known.items() if n not in TUNING_PATHS or n == f"{TUNING}kind"}
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

    def edited(self, action: str, new: Callable[[str], ArmForm] = ArmForm.new) -> "StudyForm":
        """The form after a named button: `add:lora`, `copy:1`, `remove:1`, `seeds:5`, `margin:1.5`, or `set:1:{"…":…}`,
        which applies a change to an arm. Other names do nothing. `new` makes an arm of a kind."""
        verb, _colon, what = action.partition(":")
        place, _colon, change = what.partition(":")
        number = int(place) if place.isdecimal() and len(place) < 4 else len(self.arms)
        match verb:
            case "set":
                return self.changed(number, change)
            case "seeds":
                return self.with_values(seeds=what[:MAX_TEXT])
            case "margin":
                return self.with_values(margin_points=what[:MAX_TEXT])
            case "add" if what in METHODS and len(self.arms) < MOST_ARMS:
                return replace(self, arms=(*self.arms, new(what).distinct_from(self.arms)))
            case "copy" if number < len(self.arms) < MOST_ARMS:
                return self._spliced(number + 1, 0, self.arms[number].distinct_from(self.arms))
            case "remove" if number < len(self.arms):
                return self._spliced(number, 1)
        return self

    def _spliced(self, start: int, removed: int, *added: ArmForm) -> "StudyForm":
        """With arms removed and added at a place; the reference stays the same arm while it is there."""
        old: list[int | None] = list(range(len(self.arms)))
        old[start : start + removed] = [None] * len(added)
        reference = str(old.index(self.reference)) if self.reference in old and self.reference is not None else ""
        arms = (*self.arms[:start], *added, *self.arms[start + removed :])
        return replace(self.with_values(reference=reference), arms=arms)

    def changed(self, place: int, text: str) -> "StudyForm":
        """With a change of the budget, or of an arm's method. An arm that would then be a duplicate is removed.

        Where the arm overrides a changed training argument, all changed arguments that it can override become its own:
        its effective batch size is the product of two.
        """
        method, training = read_change(text)
        texts = {path: BUDGET[path].written(value) for path, value in training.items()}
        if place >= len(self.arms):
            return self.with_values(**texts)
        arm = self.arms[place]
        own = {name: text for path, text in texts.items() if (name := path.removeprefix(TRAINING)) in OVERRIDABLE}
        if not any(arm.values.get(name) for name in own):
            own = {}
        form = self.with_values(
            **{path: text for path, text in texts.items() if path.removeprefix(TRAINING) not in own}
        )
        arm = (arm if method is None else arm.with_method(method)).with_values(own)
        if method is None:
            return replace(form, arms=(*self.arms[:place], arm, *self.arms[place + 1 :]))
        others = (*self.arms[:place], *self.arms[place + 1 :])
        if any((other.kind, other.title) == (arm.kind, arm.title) for other in others):
            return form._spliced(place, 1)
        return replace(form, arms=(*self.arms[:place], arm, *self.arms[place + 1 :]))

    def with_arm(self, text: str) -> "StudyForm":
        """With the method of a change and full fine-tuning as the arms."""
        method, _training = read_change(text)
        if method is None:
            return self
        arm = ArmForm.of(ArmSpec(method=method))
        full = tuple(other for other in self.arms if other.kind == "full" != arm.kind)
        return replace(self, arms=(*full, arm))

    def with_values(self, **values: str) -> "StudyForm":
        return replace(self, values=dict(self.values) | values)

    def limited(self, field: str, choices: Collection[str], default: str = "") -> "StudyForm":
        """With the default in a field whose text is not among the choices: other data may rule out a metric."""
        return self.with_values(**{field: self.values[field] if self.values[field] in choices else default})

    @property
    def task(self) -> Task:
        """The chosen task, or the first."""
        chosen = self.values["task"]
        return chosen if chosen in TASKS else next(iter(TASKS))

    @property
    def budget(self) -> dict[str, Field]:
        """The fields of the budget that the task uses, by path."""
        return {path: f for path, f in BUDGET.items() if applies(f.name, self.task)}

    @property
    def tuning(self) -> str:
        kind = self.values.get(f"{TUNING}kind", "none")
        return kind if kind in TUNINGS else "none"

    @property
    def tuning_spec(self) -> AnyTuning | None:
        """The tuning; None while one of its fields is wrong."""
        try:
            return TUNING_ADAPTER.validate_python(self._tuning())
        except ValidationError:
            return None

    @property
    def titles(self) -> list[str]:
        """The names of the arms as the study will have them; an arm with an error has its method's name."""
        specs: list[ArmSpec | None] = []
        for arm in self.arms:
            try:
                specs.append(ArmSpec.model_validate(arm.body()))
            except ValidationError:
                specs.append(None)
        names = iter(arm_names([spec for spec in specs if spec]))
        return [next(names) if spec else arm.title for arm, spec in zip(self.arms, specs, strict=True)]

    @property
    def reference(self) -> int | None:
        """The place of the arm that was chosen as the reference; None where none is, or where there is no such arm."""
        text = self.values["reference"]
        place = int(text) if text.isdecimal() and len(text) <= 4 else len(self.arms)
        return place if place < len(self.arms) else None

    @property
    def reference_title(self) -> str:
        """The chosen arm, else the first `full` one, else the first."""
        full = [place for place, arm in enumerate(self.arms) if arm.kind == "full"]
        chosen = [] if self.reference is None else [self.reference]
        return next((self.titles[place] for place in (*chosen, *full, *range(len(self.arms)))), "")

    def spec(self) -> StudySpec:
        """The study. Raises Invalid with an error for each wrong field."""
        own = {name: self.values[name] for name in OWN_FIELDS}
        required = {name: own[name] for name in ("name", "base_model", "dataset")}
        values: dict[str, Any] = {name: text for name, text in own.items() if text} | required
        if self.reference is not None:
            values["reference"] = self.reference_title  # another text is refused with the names of the arms
        if own["margin_points"]:
            values["margin_points"] = readable(own["margin_points"])
        if own["seeds"]:
            values["seeds"] = _seeds(own["seeds"])
        arms = [arm.body() for arm in self.arms]
        return validated(
            StudySpec, values | {"arms": arms, "training": self._read(self.budget), "tuning": self._tuning()}
        )

    def _tuning(self) -> dict[str, Any]:
        return {"kind": self.tuning} | self._read(TUNINGS[self.tuning])

    def _read(self, fields: Mapping[str, Field]) -> dict[str, Any]:
        """The values of fields by path, to validate; empty fields are left out."""
        return {field.name: field.read(text) for path, field in fields.items() if (text := self.values.get(path))}


def _seeds(text: str) -> list[Any] | str:
    """`3` is a number of seeds; `0, 1, 2` and `7,` are seeds."""
    if text.isdecimal():
        return list(range(min(int(text), 1000)))
    parts = text.replace(",", " ").split()
    return parts if all(part.isdecimal() for part in parts) else text
