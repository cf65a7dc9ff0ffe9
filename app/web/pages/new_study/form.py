"""The form of a new study: kept exactly as it was typed, edited by named buttons, and read as a StudySpec."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import FormData

from app.domain.errors import Invalid
from app.domain.methods import METHODS
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning import GridTuning, HalvingTuning
from app.domain.tasks import TASKS, Task
from app.web.format import rate
from app.web.forms.fields import Field, fields_of, readable
from app.web.forms.sentences import sentences
from app.web.i18n import gettext as _
from app.web.pages.new_study.arm_form import ArmForm
from app.web.pages.new_study.savings import read_way

TUNING = "tuning."
"""Before the names of tuning's fields."""
TUNINGS: Mapping[str, tuple[Field, ...]] = {
    "none": (),
    "grid": fields_of(GridTuning),
    "halving": fields_of(HalvingTuning),
}
"""Fields of each way to look for learning rates."""
OF_TUNING = frozenset(f"{TUNING}{name}" for name in ("kind", "of", *(f.name for f in TUNINGS["halving"])))
"""What a form sends of it: `of` is the way that the other fields were shown for."""
TRAINING = "training."
"""Before the names of the budget's fields."""
BUDGET = {f.name: f for f in fields_of(TrainingBudget)}
BUDGET_PATHS = frozenset(f"{TRAINING}{name}" for name in BUDGET)
OF_TASKS: Mapping[str, tuple[Task, ...]] = {
    "packing": ("causal-lm",),
    "completion_only_loss": ("causal-lm", "seq2seq-lm"),
    "max_new_tokens": ("causal-lm", "seq2seq-lm"),
}
"""Fields that say something for some tasks only."""
OWN_FIELDS = ("name", "base_model", "dataset", "task", "metric", "general_text", "margin_points", "seeds", "reference")
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
        """A study with the defaults of everything, and no arm yet."""
        values = dict.fromkeys(OWN_FIELDS, "") | {
            "name": usual_name(base_model, dataset_title) if base_model and dataset else "",
            "base_model": base_model,
            "dataset": dataset,
            "margin_points": "1",
            "seeds": "3",
            f"{TUNING}kind": "none",
        }
        budget = {f"{TRAINING}{name}": field.default for name, field in BUDGET.items()}
        return cls(values | budget, ())

    @classmethod
    def of(cls, spec: StudySpec) -> "StudyForm":
        """A study again."""
        plain = spec.seeds == list(range(len(spec.seeds)))
        listed = ", ".join(map(str, spec.seeds)) + ("," if len(spec.seeds) == 1 else "")
        values = {name: str(getattr(spec, name) or "") for name in OWN_FIELDS} | {
            "margin_points": rate(spec.margin_points),
            "seeds": str(len(spec.seeds)) if plain else listed,
        }
        budget = {f"{TRAINING}{name}": field.written(getattr(spec.training, name)) for name, field in BUDGET.items()}
        found = {f.name: f.written(getattr(spec.tuning, f.name)) for f in TUNINGS[spec.tuning.kind]}
        tuning = {f"{TUNING}{name}": text for name, text in ({"kind": spec.tuning.kind} | found).items()}
        return cls(values | budget | tuning, tuple(ArmForm.of(arm) for arm in spec.arms))

    @classmethod
    def of_run(cls, spec: RunSpec, name: str) -> "StudyForm":
        """A run as a study of one arm."""
        training = spec.training
        arm = ArmSpec(method=spec.method, learning_rate=training.learning_rate)
        shared = spec.model_dump(include={"base_model", "dataset", "task", "metric", "general_text"})
        budget = training.model_dump(exclude={"learning_rate", "seed"})
        return cls.of(StudySpec(**shared, name=name, arms=[arm], seeds=[training.seed], training=budget))

    @classmethod
    def typed(cls, form: FormData) -> "StudyForm":
        """From a request's form. Unknown names are dropped, arms keep their order, too much is cut."""
        texts = {name: value.strip()[:LONGEST] for name, value in form.multi_items() if isinstance(value, str)}
        known = {n: v for n, v in texts.items() if n in OWN_FIELDS or n in BUDGET_PATHS or n in OF_TUNING}
        if known.pop(f"{TUNING}of", "") != known.get(f"{TUNING}kind", ""):  # another way has defaults of its own
            known = {n: v for n, v in known.items() if n not in OF_TUNING or n == f"{TUNING}kind"}
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
        """What a named button does: `add:lora`, `copy:1`, `remove:1`, `seeds:5`, `margin:1.5`, `set:1:{"…":…}`, which
        takes a way out. Others do nothing.

        `new` makes an arm of a kind.
        """
        verb, _colon, what = action.partition(":")
        if verb == "set":
            place, _colon, fields = what.partition(":")
            return self.with_way(int(place), fields) if place.isdecimal() and len(place) < 4 else self
        if verb in ("seeds", "margin"):
            field = "margin_points" if verb == "margin" else "seeds"
            return replace(self, values=dict(self.values) | {field: what[:LONGEST]})
        if verb == "add" and what in METHODS and len(self.arms) < MOST_ARMS:
            return replace(self, arms=(*self.arms, new(what).unlike(self.arms)))
        if verb not in ("copy", "remove") or not what.isdecimal() or int(what) >= len(self.arms):
            return self
        before, arm, after = self.arms[: int(what)], self.arms[int(what)], self.arms[int(what) + 1 :]
        if verb == "copy" and len(self.arms) < MOST_ARMS:
            return replace(self, arms=(*before, arm, arm.unlike(self.arms), *after))
        return replace(self, arms=before + after)

    def with_way(self, place: int, text: str) -> "StudyForm":
        """With what a way out sets, as JSON by path: fields of the budget, or another method for an arm.

        An arm that would then be there twice is left out. What no way out sets is dropped.
        """
        found = read_way(text)
        budget = {f"{TRAINING}{name}": BUDGET[name].written(v) for name, v in found.training.items() if name in BUDGET}
        form = replace(self, values=dict(self.values) | budget)
        if found.method is None or place >= len(self.arms):
            return form
        others = (*self.arms[:place], *self.arms[place + 1 :])
        arm = ArmForm.of(ArmSpec(method=found.method))
        if any((other.kind, other.title) == (arm.kind, arm.title) for other in others):
            return replace(form, arms=others)
        return replace(form, arms=(*self.arms[:place], arm.unlike(others), *self.arms[place + 1 :]))

    def with_arm(self, text: str) -> "StudyForm":
        """With a method, as JSON, beside full fine-tuning in place of the usual arms; the same where it names none."""
        method = read_way(text).method
        if method is None:
            return self
        full = tuple(arm for arm in self.arms if arm.kind == "full")
        arm = ArmForm.of(ArmSpec(method=method))
        return replace(self, arms=full if arm.kind == "full" else (*full, arm))

    def named(self, name: str) -> "StudyForm":
        """The form with another name."""
        return replace(self, values=dict(self.values) | {"name": name})

    def within(self, field: str, choices: Collection[str], otherwise: str = "") -> "StudyForm":
        """With a field as it is if that is one of the choices, otherwise as said: other data may rule a metric out."""
        kept = self.values[field] if self.values[field] in choices else otherwise
        return replace(self, values=dict(self.values) | {field: kept})

    @property
    def task(self) -> Task:
        """The chosen task; the usual one until one is chosen."""
        chosen = self.values["task"]
        return chosen if chosen in TASKS else next(iter(TASKS))

    @property
    def budget(self) -> tuple[Field, ...]:
        """Fields of the budget that say something for the task."""
        return tuple(f for name, f in BUDGET.items() if self.task in OF_TASKS.get(name, (self.task,)))

    def budget_value(self, name: str) -> str:
        """What stands in a field of the budget; one that was not sent stands at its default."""
        return self.values.get(f"{TRAINING}{name}", BUDGET[name].default)

    @property
    def tuning(self) -> str:
        """How learning rates are looked for."""
        chosen = self.values.get(f"{TUNING}kind", "none")
        return chosen if chosen in TUNINGS else "none"

    def tuning_value(self, field: Field) -> str:
        """What stands in a field of tuning; one that was not sent stands at its default."""
        return self.values.get(f"{TUNING}{field.name}", field.default)

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
            raise Invalid.of(fields) from None

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = {name: self.values[name] for name in ("name", "base_model", "dataset", "reference")}
        body |= {name: text for name in ("task", "metric", "general_text") if (text := self.values[name])}
        if margin := self.values["margin_points"]:
            body["margin_points"] = readable(margin)
        if seeds := self.values["seeds"]:
            body["seeds"] = _seeds(seeds)
        typed = {f: self.values.get(f"{TRAINING}{f.name}", "") for f in self.budget}
        budget = {field.name: field.read(text) for field, text in typed.items() if text}
        fields = {f.name: f.read(text) for f in TUNINGS[self.tuning] if (text := self.tuning_value(f))}
        body["tuning"] = {"kind": self.tuning} | fields
        return body | {"arms": [arm.body() for arm in self.arms], "training": budget}


def usual_name(base_model: str, dataset_title: str) -> str:
    """What a study is called until somebody gives it a name."""
    return _("%(data)s on %(model)s", data=dataset_title, model=base_model)


def _seeds(text: str) -> list[Any] | str:
    """`3` is a number of seeds; `0, 1, 2` and `7,` are seeds."""
    if text.isdecimal():
        return list(range(min(int(text), 1000)))
    parts = text.replace(",", " ").split()
    return parts if all(part.isdecimal() for part in parts) else text
