"""Results of parity checks in words."""

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.features.shipping.rules.parity import Model, Parity
from app.words.format import count, decimal
from app.words.i18n import gettext as _
from app.words.i18n import ngettext, stored
from app.words.runs.metrics import title


def parity_agreement(result: Parity) -> str:
    """`118 of 120`."""
    return _("%(same)s of %(items)s", same=count(result.same), items=count(result.items))


def parity_reason(result: Parity) -> str:
    """Why it does not pass, besides answering as the base model; empty where it passes."""
    if result.high < -result.margin:
        return _("loses at least %(points)s points", points=decimal(-100 * result.high))
    if result.outcome is GateOutcome.UNDECIDED and result.low <= -result.margin:
        return _("may lose up to %(points)s points; more test items would decide", points=decimal(-100 * result.low))
    if result.outcome is GateOutcome.UNDECIDED and result.refused:
        return _("the score agrees, but not every test item was answered")
    if result.outcome is GateOutcome.UNDECIDED:
        return _("the score agrees, but the texts do not show that it is the run")
    return ""


def parity_answers_as(result: Parity) -> str:
    """As which model the server answers, by the items on which run and base model differ."""
    text = _answers_as(result)
    if not (result.clusters and result.telling):
        return text
    return _("%(text)s; items with one input or group count once here", text=text)


def _answers_as(result: Parity) -> str:
    values = {"run": count(result.as_run), "base": count(result.as_base), "items": count(result.telling)}
    match result.answers_as:
        case Model.BASE:
            return _(
                "as the base model, in %(base)s of the %(items)s items on which run and base model differ: the server "
                "does not use what the run trained",
                **values,
            )
        case Model.RUN:
            return _("as the run, in %(run)s of the %(items)s items on which run and base model differ", **values)
        case Model.NEARER_RUN:
            return _(
                "nearer to the run in %(run)s of the %(items)s items on which run and base model differ, but with the "
                "run's text in %(same)s only: it may be another adapter or another checkpoint",
                same=count(result.same_telling),
                **values,
            )
    if not result.telling:
        return _(
            "unclear: run and base model answer alike, so no answer shows whether the server uses what the run trained"
        )
    return _(
        "unclear: of the %(items)s items on which run and base model differ, %(run)s answers are nearer to the run and "
        "%(base)s to the base model",
        **values,
    )


def parity_left_out(result: Parity) -> str:
    """Items that cannot be compared; empty without any."""
    if not result.left_out:
        return ""
    return ngettext(
        "%(num)s item left out: the run has not read its whole prompt",
        "%(num)s items left out: the run has not read their whole prompts",
        result.left_out,
    )


def parity_refused(result: Parity) -> str:
    """Items that the server refuses, with its reason; empty without any."""
    if not result.refused:
        return ""
    return ngettext(
        "%(num)s item refused: %(why)s",
        "%(num)s items refused, the first: %(why)s",
        result.refused,
        why=stored(result.refusal).rstrip("."),
    )


def parity_writes_on(result: Parity) -> str:
    """Answers that do not end where the run's do; empty without any."""
    if not result.writes_on:
        return ""
    return ngettext(
        "%(num)s answer writes on after the run's text: check the stop token and the chat template of the server",
        "%(num)s answers write on after the run's text: check the stop token and the chat template of the server",
        result.writes_on,
    )


def parity_metric(result: Parity) -> str:
    """The metric's title."""
    return title(result.metric)


FILTERS = (
    parity_agreement,
    parity_reason,
    parity_answers_as,
    parity_left_out,
    parity_refused,
    parity_writes_on,
)
