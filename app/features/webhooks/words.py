"""Webhooks in words."""

from app.features.webhooks.rules import WebhookEvent
from app.words.i18n import gettext as _
from app.words.i18n import marked

EVENTS: dict[WebhookEvent, str] = {
    WebhookEvent.MODEL_PROMOTED: marked("a version became the champion of a registered model"),
    WebhookEvent.STUDY_FINISHED: marked("the last run of a study has ended"),
    WebhookEvent.RUN_FAILED: marked("a run has failed"),
}


def event_text(event: WebhookEvent) -> str:
    """When it is sent."""
    return _(EVENTS[event])


FILTERS = (event_text,)
