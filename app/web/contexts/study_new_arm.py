"""The page on which an arm is added to a study that is there: which method, its fields, and what it would owe."""

from dataclasses import dataclass

from app.domain.errors import FieldError
from app.domain.misfits import INSIST
from app.domain.studies import StudySpec
from app.domain.tuning import trials_owed
from app.store.tables import BaseModelRow, DatasetRow
from app.web.contexts.new_arm import FamilyOffer, NewArm, new_arm, offers
from app.web.contexts.new_tuning import row
from app.web.forms.arm import ArmForm
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.refusals import told
from app.web.words.fields import of_arm

PLACE = "arms.0."
"""Before the names of the arm's fields, as in the form of a study."""


@dataclass(frozen=True)
class StudyNewArm:
    """The page."""

    study_id: int
    study: str
    offers: tuple[FamilyOffer, ...]
    arm: NewArm | None
    """None until a method is chosen."""
    owes: str
    """What it will be given, as a sentence."""
    errors: tuple[FieldError, ...]
    """Paths as the form's fields have them."""
    insists: bool

    @classmethod
    def of(
        cls,
        study_id: int,
        spec: StudySpec,
        model: BaseModelRow | None,
        dataset: DatasetRow | None,
        kind: str,
        typed: ArmForm | None = None,
        *,
        errors: tuple[FieldError, ...] = (),
        insists: bool = False,
    ) -> "StudyNewArm":
        """From a study, a method's kind (empty: not chosen yet) and what was typed. Errors have an arm's paths."""
        labels = len(dataset.facts.labels) if dataset else 2
        facts = model.facts if model else None
        known = facts.task_model(spec.task, labels) if facts and spec.task in facts.tasks else None
        form = typed or (new_arm(kind, known).unlike([ArmForm.of(arm) for arm in spec.arms]) if kind else None)
        placed = tuple(told(FieldError(f"{PLACE}{e.path}", e.message, _here(e.remedy))) for e in errors)
        usual = {"weight_decay": f"{spec.training.weight_decay:g}"}
        if spec.tuning.rounds:
            usual["learning_rates"] = _rates(spec, form) or _("a row around it")
        arm = NewArm.of(0, form, known, usual, lambda path: [e for e in placed if e.path == path]) if form else None
        return cls(study_id, spec.name, offers(known), arm, _owes(spec), placed, insists)

    def has_field(self, path: str) -> bool:
        """The form shows a field of that path."""
        return self.arm is not None and path in self.arm.fields.paths

    def name_of(self, path: str) -> str:
        """A field as the form calls it; empty where an error is about no single field."""
        return of_arm(path.removeprefix(PLACE)) if self.has_field(path) else ""

    @property
    def whole(self) -> bool:
        """Something is wrong with no single field of the form."""
        return not all(self.has_field(error.path) for error in self.errors)


def _here(remedy: str) -> str:
    """A remedy without what is for programs: the page has a box to tick instead."""
    return remedy.removesuffix(INSIST).removesuffix("; or ")


def _rates(spec: StudySpec, form: ArmForm | None) -> str:
    found = form.spec() if form else None
    return row(spec.rates(found)) if found else ""


def _owes(spec: StudySpec) -> str:
    seeds = ngettext("%(num)s run", "%(num)s runs", len(spec.seeds))
    if not spec.tuning.rounds:
        return _("It gets the seeds that the others have: %(runs)s.", runs=seeds)
    trials = ngettext("%(num)s trial", "%(num)s trials", trials_owed(spec.tuning))
    return _(
        "It gets as many trials and the seeds of the others: %(trials)s, then %(runs)s.",
        trials=trials,
        runs=seeds,
    )
