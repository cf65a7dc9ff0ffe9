"""Check of the experiment tracker to which studies are exported."""

from collections.abc import Iterator, Sequence

from app.cli.checks.finding import Finding
from app.cli.tracker_errors import tracker_error
from app.features.elsewhere.queries import tracker_exports
from app.features.elsewhere.tables import TrackerExport
from app.settings import Settings
from app.store.database.session import Database
from app.words.i18n import gettext as _
from app.words.i18n import localized, marked, ngettext, stored
from vezna.errors import TrackerError
from vezna.trackers.targets import tracker_at

CHECK = marked("tracker")


def check(database: Database, settings: Settings) -> Iterator[Finding]:
    """Whether the tracker's client is here, which studies were not exported, and which exports failed and are tried
    again. Nothing without a tracker."""
    if not settings.tracker:
        return
    try:
        tracker_at(settings.tracker)
    except TrackerError as error:
        remedy = _("Install it where the control node runs, or unset VEZNA_TRACKER elsewhere")
        yield Finding(CHECK, "problem", localized(tracker_error(error).message).rstrip("."), remedy)
    with database.reading() as session:
        failing = tracker_exports.failing(session)
    if not failing:
        yield Finding(CHECK, "ok", _purpose(settings))
    if retried := [row for row in failing if row.next_at is not None]:
        yield _retried(settings, retried)
    if failed := [row for row in failing if row.next_at is None]:
        yield _failed(settings, failed)


def _purpose(settings: Settings) -> str:
    if not settings.tracker_live_seconds:
        return _("Studies are exported to %(tracker)s when they end", tracker=settings.tracker)
    return _(
        "Studies are exported to %(tracker)s every %(seconds)s s while they run, and when they end",
        tracker=settings.tracker,
        seconds=f"{settings.tracker_live_seconds:g}",
    )


def _retried(settings: Settings, rows: Sequence[TrackerExport]) -> Finding:
    said = ngettext(
        "The export of %(num)s study to %(tracker)s failed and is tried again. Study %(id)s: %(why)s",
        "The exports of %(num)s studies to %(tracker)s failed and are tried again. Study %(id)s: %(why)s",
        len(rows),
        **_first(settings, rows),
    )
    return Finding(CHECK, "warning", said, _("Check that the tracker runs and that the control node reaches it"))


def _failed(settings: Settings, rows: Sequence[TrackerExport]) -> Finding:
    said = ngettext(
        "%(num)s study was not exported to %(tracker)s. Study %(id)s: %(why)s",
        "%(num)s studies were not exported to %(tracker)s. Study %(id)s: %(why)s",
        len(rows),
        **_first(settings, rows),
    )
    remedy = _("Export them by hand: vezna export-study ID --to %(tracker)s", tracker=settings.tracker)
    return Finding(CHECK, "warning", said, remedy)


def _first(settings: Settings, rows: Sequence[TrackerExport]) -> dict[str, str]:
    """The tracker, and the first study: its number as `vezna export-study` takes it, and why its export failed."""
    row = rows[0]
    number = f"{row.study_id}{' --external' if row.external else ''}"
    return {"tracker": settings.tracker, "id": number, "why": stored(row.message).rstrip(".")}
