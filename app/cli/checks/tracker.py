"""Check of the experiment tracker to which studies are exported when they end."""

from collections.abc import Iterator

from app.cli.checks.finding import Finding
from app.cli.tracker_errors import tracker_error
from app.settings import Settings
from app.store.queries import tracker_exports
from app.store.session import Database
from app.web.i18n import gettext as _
from app.web.i18n import localized, ngettext, stored
from vezna.errors import TrackerError
from vezna.trackers.targets import tracker_at


def check(database: Database, settings: Settings) -> Iterator[Finding]:
    """Whether the tracker's client is here, and which studies could not be exported. Nothing without a tracker."""
    if not settings.tracker:
        return
    try:
        tracker_at(settings.tracker)
    except TrackerError as error:
        remedy = _("Install it where the control node runs, or unset VEZNA_TRACKER elsewhere")
        yield Finding("tracker", "problem", localized(tracker_error(error).message).rstrip("."), remedy)
    with database.reading() as session:
        failed = tracker_exports.failed(session)
    if not failed:
        yield Finding("tracker", "ok", _("Studies are exported to %(tracker)s when they end", tracker=settings.tracker))
        return
    said = ngettext(
        "%(num)s study was not exported to %(tracker)s. Study %(id)s: %(why)s",
        "%(num)s studies were not exported to %(tracker)s. Study %(id)s: %(why)s",
        len(failed),
        tracker=settings.tracker,
        id=f"{failed[0].study_id}{' --external' if failed[0].external else ''}",
        why=stored(failed[0].message).rstrip("."),
    )
    remedy = _("Export them by hand: vezna export-study ID --to %(tracker)s", tracker=settings.tracker)
    yield Finding("tracker", "warning", said, remedy)
