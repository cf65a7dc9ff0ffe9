"""Why nothing was learned, in words: causes that were measured, and the study that would remove each."""

from collections.abc import Sequence

from app.domain.comparison.learning.causes import Cause, CauseKind
from app.domain.comparison.learning.learning import Progress
from app.domain.comparison.learning.loss_trend import LossTrend
from app.domain.comparison.study import StudyComparison
from app.domain.studies.remedies import MORE
from app.words.format import count, decimal, general, percent
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext

TITLES = {
    CauseKind.STEPS: marked("Too few steps"),
    CauseKind.LEARNING_RATE: marked("Learning rate"),
    CauseKind.MAX_LENGTH: marked("Max length truncates many texts"),
    CauseKind.LABELS: marked("Contradictory labels"),
}
RATE_TITLES = {
    "low": marked("Learning rate too low"),
    "high": marked("Learning rate too high"),
    "unknown": marked("Learning rate too low or too high"),
}


def cause_title(cause: Cause) -> str:
    return _(RATE_TITLES[cause.direction]) if cause.direction else _(TITLES[cause.kind])


def cause_text(cause: Cause, study: StudyComparison) -> str:
    match cause.kind:
        case CauseKind.STEPS:
            return _steps(cause)
        case CauseKind.LEARNING_RATE:
            return _learning_rate(cause)
        case CauseKind.MAX_LENGTH:
            text = _(
                "%(share)s of the training rows (%(rows)s of %(all)s) are longer than %(limit)s tokens and were "
                "truncated.",
                limit=count(study.spec.training.max_length),
                **_rows(cause),
            )
            if cause.long_tokens:
                text += " " + _("95 %% of them have at most %(tokens)s tokens.", tokens=count(cause.long_tokens))
            return text
        case CauseKind.LABELS:
            return _(
                "%(share)s of the training rows (%(rows)s of %(all)s) have a text that occurs with another label too.",
                **_rows(cause),
            )


def _rows(cause: Cause) -> dict[str, str]:
    return {"share": percent(cause.share), "rows": count(cause.rows), "all": count(cause.of_rows)}


def _steps(cause: Cause) -> str:
    steps = ngettext("%(count)s step", "%(count)s steps", cause.steps, count=count(cause.steps))
    if cause.loss is None:
        return _("A run has %(steps)s, too few to show a trend of the loss.", steps=steps)
    return _(
        "The training loss was still falling at the last of %(steps)s, in %(runs)s of %(all)s runs: %(before)s → "
        "%(after)s over the second half.",
        steps=steps,
        runs=cause.runs,
        all=cause.of_runs,
        before=decimal(cause.loss[0], 3),
        after=decimal(cause.loss[1], 3),
    )


def _learning_rate(cause: Cause) -> str:
    values: dict[str, object] = {"runs": cause.runs, "all": cause.of_runs, "diverged": cause.diverged}
    if cause.loss:
        values |= {"before": decimal(cause.loss[0], 3), "after": decimal(cause.loss[1], 3)}
    if cause.diverged:
        return ngettext(
            "The loss of %(diverged)s of %(all)s runs diverged.",
            "The loss of %(diverged)s of %(all)s runs diverged.",
            cause.of_runs,
            **values,
        )
    if cause.direction == "high":
        return _(
            "The training loss ended above its beginning in %(runs)s of %(all)s runs: %(before)s → %(after)s.", **values
        )
    if cause.direction == "low":
        return _(
            "The training loss fell by less than a tenth in %(runs)s of %(all)s runs: %(before)s → %(after)s.", **values
        )
    return _(
        "The training loss did not fall over the second half in %(runs)s of %(all)s runs: it stopped at %(after)s.",
        **values,
    )


def ruled_out_text(cause: Cause) -> str:
    """Why it is not a cause: a part of a sentence."""
    match cause.kind:
        case CauseKind.STEPS:
            return _("too few steps (the loss had stopped falling in all %(all)s runs)", all=cause.of_runs)
        case CauseKind.LEARNING_RATE if cause.loss:
            return _(
                "learning rate (the loss fell from %(before)s to %(after)s)",
                before=decimal(cause.loss[0], 3),
                after=decimal(cause.loss[1], 3),
            )
        case CauseKind.LEARNING_RATE:
            return _("learning rate")
        case CauseKind.MAX_LENGTH:
            return _("max length (%(rows)s of %(all)s training rows are truncated)", **_rows(cause))
        case CauseKind.LABELS:
            return _("contradictory labels (%(rows)s of %(all)s training rows)", **_rows(cause))


def ruled_out_texts(causes: Sequence[Cause]) -> str:
    """All of them, after `Checked and ruled out: `."""
    return "; ".join(ruled_out_text(cause) for cause in causes)


def remedy_label(cause: Cause, study: StudyComparison) -> str:
    """The button that prepares the study which would remove it; empty where there is none."""
    reference = study.reference
    training, search = study.spec.training_of(reference.settled), study.spec.space(reference.spec)
    match cause.kind:
        case CauseKind.STEPS if search.max_steps:
            return _("Search %(times)s times as many steps", times=MORE)
        case CauseKind.STEPS if search.num_train_epochs:
            return _("Search %(times)s times as many epochs", times=MORE)
        case CauseKind.STEPS if training.max_steps:
            return _("Train for %(steps)s steps", steps=count(MORE * training.max_steps))
        case CauseKind.STEPS:
            return _("Train for %(epochs)s epochs", epochs=general(MORE * training.num_train_epochs))
        case CauseKind.LEARNING_RATE:
            return _("Search learning rates")
        case CauseKind.MAX_LENGTH:
            tokens = cause.max_length
            return _("Raise max length to %(tokens)s", tokens=count(tokens)) if tokens else ""
        case CauseKind.LABELS:
            return _("Choose corrected data")


def trend_text(trend: LossTrend | None) -> str:
    """`still falling, 0.861 → 0.812`: over the second half of a run's steps."""
    if trend is None:
        return _("too few steps to tell")
    words = {"falling": _("still falling"), "flat": _("no clear trend"), "rising": _("rising")}
    values = {"before": decimal(trend.half_start, 3), "after": decimal(trend.half_end, 3)}
    return _("%(trend)s, %(before)s → %(after)s", trend=words[trend.kind], **values)


def progress_text(progress: Progress | None) -> str:
    """`the first of 4` or `the third …`: which evaluation on the validation split was the best."""
    if progress is None:
        return _("fewer than two evaluations")
    if not progress.improved:
        return _("the first of %(all)s", all=progress.evaluations)
    return _(
        "number %(best)s of %(all)s, step %(step)s",
        best=progress.best,
        all=progress.evaluations,
        step=count(progress.step),
    )


def likelihood_label(cause: Cause) -> str:
    """`likely` or `possible`."""
    return _("likely") if cause.likely else _("possible")


FILTERS = (cause_title, cause_text, remedy_label, likelihood_label, ruled_out_texts, trend_text, progress_text)
