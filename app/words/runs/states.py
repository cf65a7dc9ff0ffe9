"""The word of a state: of a run, a study, a worker, a fit, a model, data, a check or a finding."""

from app.words.i18n import gettext as _
from app.words.i18n import marked

STATES = {
    "queued": marked("queued"),
    "running": marked("running"),
    "succeeded": marked("succeeded"),
    "finished": marked("finished"),
    "failed": marked("failed"),
    "cancelled": marked("cancelled"),
    "no_news": marked("no news"),
    "idle": marked("idle"),
    "draining": marked("stopping"),
    "lost": marked("lost"),
    "fits": marked("fits"),
    "tight": marked("tight"),
    "does_not_fit": marked("does not fit"),
    "unknown": marked("not known yet"),
    "ready": marked("ready"),
    "inspecting": marked("inspecting"),
    "preparing": marked("preparing"),
    "blocked": marked("blocked"),
    "reading": marked("reading"),
    "read": marked("confirm the mapping"),
    "pass": marked("pass"),
    "fail": marked("fail"),
    "undecided": marked("undecided"),
    "blocks": marked("blocks the dataset"),
    "warns": marked("warning"),
    "notes": marked("note"),
}


def state_word(state: str) -> str:
    """The word of a state, as in a list."""
    return _(STATES[state])


FILTERS = (state_word,)
