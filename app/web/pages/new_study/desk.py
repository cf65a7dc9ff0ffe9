"""Where a form of a new study is filled in: what is registered, and what the study would take."""

from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from app.domain.errors import FieldError
from app.queue import Doorbell
from app.settings import Settings
from app.store.session import Database
from app.web.i18n import gettext as _
from app.web.pages.new_study.arm import NewArm, offers
from app.web.pages.new_study.context import NewStudyPage
from app.web.pages.new_study.foreseen import foreseen
from app.web.pages.new_study.form import StudyForm
from app.web.pages.new_study.registered import Registered
from app.web.pages.new_study.tuning import row
from app.web.text.plan import plan


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
        planned, fits = foreseen(self.db, self.bell, self.settings, plan(self.session, form))
        rates = {arm.title: row(planned.spec.rates(arm)) for arm in planned.spec.arms} if planned.spec else {}
        tuned = form.tuning != "none"
        page = NewStudyPage(
            form=form,
            models=self.known.models,
            data=self.known.offered(form),
            task=self.known.step(form),
            arms=(),
            offers=offers(model),
            plan=planned,
            fits=fits,
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
