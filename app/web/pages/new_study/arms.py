"""The arms of the form: their fields, what they would train, and the methods to choose from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from app.domain.errors import FieldError
from app.domain.methods import SPECS, Family, MethodFacts
from app.domain.methods.base import NAMED_TARGETS, PEFT_DEFAULT, LinearMethod
from app.domain.models.adaptations import Adaptation, adaptation, usual
from app.domain.models.architecture import TaskModel, short_names
from app.domain.studies.arms import OVERRIDABLE, ArmSpec
from app.domain.studies.tuning import NoTuning, TuningSpec
from app.web.forms.fields import Fields
from app.web.i18n import gettext as _
from app.web.pages.new_study.arm_form import METHOD, SHARED, ArmForm
from app.web.text import methods
from app.web.text.fields import ARM_FIELDS
from app.web.text.tuning import rate_list


@dataclass(frozen=True)
class ArmFields:
    """An arm as it is filled in."""

    place: int
    form: ArmForm
    title: str
    fields: Fields
    adapted: Adaptation | None
    """What its method does to the chosen model; None while one of them is not known."""
    errors: Sequence[FieldError]
    """Errors of the arm as a whole."""
    modules: tuple[str, ...]
    """Values of `target_modules` to pick from, names of the chosen model's linear layers among them."""

    @classmethod
    def of(
        cls,
        place: int,
        form: ArmForm,
        title: str,
        model: TaskModel | None,
        tuning: TuningSpec | None,
        budget: Mapping[str, str],
        errors_of: Callable[[str], Sequence[FieldError]],
    ) -> "ArmFields":
        """Learning rates to try are shown with tuning, or if some are given. `tuning` and `budget` are those of the
        study: tuning is None while it is not valid, the budget is the text of its fields by name."""
        path, method = f"arms.{place}.", form.method
        fields = {f"{path}{METHOD}{field.name}": field for field in form.fields}
        tuned = not isinstance(tuning, NoTuning)
        shown = [name for name in SHARED if name != "learning_rates" or tuned or form.values.get(name)]
        placeholders = {name: text for name, text in budget.items() if name in OVERRIDABLE} | {
            **{field.name: field.default for field in form.fields if field.kind == "modules"},
            "name": title,
            "learning_rates": _grid(form, tuning) if tuned else "",
        }
        return cls(
            place=place,
            form=form,
            title=title,
            fields=Fields.of(
                ARM_FIELDS,
                fields | {f"{path}{name}": SHARED[name] for name in shown},
                {f"{path}{name}": text for name, text in form.values.items()},
                errors_of,
                placeholders,
            ),
            adapted=adaptation(method, model) if method and model else None,
            errors=errors_of(f"{path}{METHOD}kind"),
            modules=_choices(form.kind, model) if model else (),
        )

    @property
    def sent(self) -> dict[str, str]:
        """What the browser sends of it, by name."""
        values = {f"{METHOD}kind": self.form.kind} | dict(self.form.values)
        return {f"arms.{self.place}.{name}": text for name, text in values.items()}


def offers(model: TaskModel | None) -> list[tuple[Family, str, list[tuple[MethodFacts, str]]]]:
    """Every method below the title of its family, and why no setting of it suits the chosen model and task; empty where
    one does."""
    return [
        (family, title, [(method, _problem(method.kind, model)) for method in facts])
        for family, title, facts in methods.by_family()
    ]


def new_arm(kind: str, model: TaskModel | None) -> ArmForm:
    """An arm with its method's defaults, and with target modules where PEFT has no default for the model."""
    return ArmForm.of(ArmSpec(method=usual(kind, model))) if model else ArmForm.new(kind)


def _problem(kind: str, model: TaskModel | None) -> str:
    problem = usual(kind, model).incompatibility(model) if model else None
    return problem.sentence if problem and problem.path == "kind" else ""


def _choices(kind: str, model: TaskModel) -> tuple[str, ...]:
    """What `target_modules` can be: PEFT's default where it has one."""
    spec = SPECS[kind]()
    if not isinstance(spec, LinearMethod):
        return ()
    named = (name for name in NAMED_TARGETS if name != PEFT_DEFAULT or spec.defaults(model))
    return (*named, *short_names(model.linear))


def _grid(form: ArmForm, tuning: TuningSpec | None) -> str:
    """The learning rates that an arm tries unless some are given."""
    try:
        arm = ArmSpec.model_validate(form.body() | {"learning_rates": None})
    except ValidationError:
        arm = None
    if arm is None or tuning is None or isinstance(tuning, NoTuning):
        return _("a grid around it")
    return rate_list(tuning.around(arm.rate))
