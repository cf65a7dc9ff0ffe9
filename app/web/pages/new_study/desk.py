"""Where a form of a new study is filled in: what is registered, and what the study would take."""

from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from app.domain.errors import FieldError, Invalid
from app.queue import Doorbell
from app.services.study_plan import PlannedStudy, planned
from app.settings import Settings
from app.store.session import Database
from app.web.i18n import gettext as _
from app.web.pages.new_study.arm import NewArm, offers
from app.web.pages.new_study.context import NewStudyPage, memory_figure
from app.web.pages.new_study.form import StudyForm
from app.web.pages.new_study.registered import Registered
from app.web.pages.new_study.tuning import row


@dataclass(frozen=True)
class Desk:
    """What a form is filled in with: what is registered, and who works out what it would take."""

    db: Database
    bell: Doorbell
    settings: Settings
    session: Session
    known: Registered

    def page(
        self, typed_form: StudyForm, errors: tuple[FieldError, ...] = (), *, insists: bool = False
    ) -> NewStudyPage:
        """The form with what it would take."""
        form = self.known.settled(typed_form)
        model = self.known.task_model(form)
        budget = {"weight_decay": form.budget_value("weight_decay")}
        found, plan_errors = self._plan(form)
        spec = found.plan.spec if found else None
        rates = {arm.title: row(spec.rates(arm)) for arm in spec.arms} if spec else {}
        tuned = form.tuning != "none"
        page = NewStudyPage(
            form=form,
            models=self.known.models,
            data=self.known.offered(form),
            task=self.known.step(form),
            arms=(),
            offers=offers(model),
            plan=found.plan if found else None,
            plan_errors=plan_errors,
            memory=memory_figure(found),
            insists=insists,
            errors=tuple(errors),
        )
        arms = (
            NewArm.of(
                place,
                arm,
                model,
                budget | ({"learning_rates": rates.get(arm.title) or _("a row around it")} if tuned else {}),
                page.errors_of,
            )
            for place, arm in enumerate(form.arms)
        )
        return replace(page, arms=tuple(arms))

    def _plan(self, form: StudyForm) -> tuple[PlannedStudy | None, tuple[FieldError, ...]]:
        """From what was typed so far, or why there is none."""
        try:
            return planned(self.db, self.bell, self.settings, self.session, form.spec()), ()
        except Invalid as error:
            return None, error.at()
