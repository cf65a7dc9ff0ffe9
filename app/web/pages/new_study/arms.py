"""The arms of the form: their fields, what they would train, and the methods to choose from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from app.domain.errors import FieldError
from app.domain.methods import SPECS, Family, MethodFacts
from app.domain.methods.base import LinearMethod
from app.domain.methods.targets import NAMED_TARGETS, PEFT_DEFAULT
from app.domain.models.adaptations import Adaptation, adaptation, usual
from app.domain.models.architecture import TaskModel, short_names
from app.domain.studies.arms import OVERRIDABLE, ArmSpec
from app.domain.studies.tuning.tuning import AnyTuning, NoTuning
from app.domain.tasks import TASKS
from app.web.forms.fields import Fields
from app.web.pages.new_study.arm_form import METHOD, SEARCH, SHARED, ArmForm
from app.words.format import rate
from app.words.i18n import gettext as _
from app.words.models import methods
from app.words.runs.fields import ARM_FIELDS, SEARCH_FIELDS
from app.words.studies.tuning import dimension_text


@dataclass(frozen=True)
class ArmFields:
    """An arm as it is filled in."""

    place: int
    form: ArmForm
    title: str
    fields: Fields
    search: Fields
    """What its trials vary; empty without tuning."""
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
        tuning: AnyTuning | None,
        budget: Mapping[str, str],
        errors_of: Callable[[str], Sequence[FieldError]],
    ) -> "ArmFields":
        """The search space is shown with tuning, or if one is given. `tuning` and `budget` are those of the study:
        tuning is None while it is not valid, the budget is the text of its fields by name."""
        path, method, width = f"arms.{place}.", form.method, model.hidden_size if model else None
        factor = TASKS[model.task].rate_factor if model else 1.0
        fields = {f"{path}{METHOD}{field.name}": field for field in form.fields}
        searched = {name: field for name, field in SEARCH.items() if _searchable(form, field.name)}
        shown = {} if isinstance(tuning, NoTuning) and not any(map(form.values.get, SEARCH)) else searched
        placeholders = {name: text for name, text in budget.items() if name in OVERRIDABLE} | {
            **{field.name: field.default for field in form.fields if field.kind == "modules"},
            "name": title,
            "learning_rate": rate(SPECS[form.kind]().learning_rate(None, width, factor)),
        }
        return cls(
            place=place,
            form=form,
            title=title,
            fields=Fields.of(
                ARM_FIELDS,
                fields | {f"{path}{name}": field for name, field in SHARED.items()},
                {f"{path}{name}": text for name, text in form.values.items()},
                errors_of,
                placeholders,
            ),
            search=Fields.of(
                SEARCH_FIELDS,
                {f"{path}{name}": field for name, field in shown.items()},
                {f"{path}{name}": text for name, text in form.values.items()},
                errors_of,
                {"learning_rate": _usual_rates(form, tuning, width, factor)},
            ),
            adapted=adaptation(method, model) if method and model else None,
            errors=[*errors_of(f"{path}{METHOD}kind"), *errors_of(f"{path}search")],
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


def _searchable(form: ArmForm, name: str) -> bool:
    """The method has it; rank and alpha not every one has."""
    own = {"r": ("r", "init_r"), "lora_alpha": ("lora_alpha", "alpha")}
    return name not in own or any(field.name in own[name] for field in form.fields)


def _usual_rates(form: ArmForm, tuning: AnyTuning | None, width: int | None, factor: float) -> str:
    """The learning rates that an arm tries if it gives no search space."""
    if tuning is None or isinstance(tuning, NoTuning) or any(map(form.values.get, SEARCH)):
        return ""
    try:
        usual = ArmSpec.model_validate(form.body()).with_default_rate(width, factor).rate
    except ValidationError:
        return _("around its own")
    dimension = tuning.usual_space(usual).learning_rate
    return dimension_text(dimension) if dimension else ""
