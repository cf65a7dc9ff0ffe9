"""What is planned in a form, with what is predicted for it: how long it would train, what each arm needs, and whether
that fits. The form of a study and that of an arm for one that is there ask alike."""

from app.domain.errors import Invalid
from app.domain.messages import Message
from app.queue import Doorbell
from app.services.resources import memory_fit
from app.settings import Settings
from app.store.session import Database
from app.web.http.waiting import look_or_ask
from app.web.memory_fit_context import StudyFits, train_times
from app.web.text.plan import Plan


def foreseen(db: Database, bell: Doorbell, settings: Settings, planned: Plan) -> tuple[Plan, StudyFits | None]:
    """A plan with the times of a worker, and what its arms need: worked out, or asked for. None for a plan that is not
    complete."""
    spec = planned.spec
    if spec is None:
        return planned, None
    report = look_or_ask(db, bell, lambda session, b: memory_fit.of_study(session, b, settings, spec))
    worker, times = train_times(report)
    return planned.timed(times, worker), StudyFits.of(report, [arm.family for arm in planned.arms])


def at_the_box(error: Invalid) -> Invalid:
    """A refusal of what fits no live worker as a form says it: at the box that one ticks to have it queued all the
    same, for its panel says the rest. Other errors stay as they are."""
    if not error.fields or any(field.path.rpartition(".")[2] != "method" for field in error.fields):
        return error
    return Invalid.field(
        "insist", Message("It fits on no live worker"), Message("Choose one of the savings, or tick the box")
    )
