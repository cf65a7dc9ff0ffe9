"""Checks of what this machine reaches: database, workers, clock, broker, files."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from app import feature
from app.broker.queue import Doorbell
from app.cli.checks.finding import Finding
from app.cli.terminal.workers import gpu_words
from app.domain.errors import Unavailable
from app.services.workers import ringing
from app.services.workers import workers as worker_service
from app.settings import Settings
from app.store.database import migrate
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.workers import clock
from app.words.format import age, decimal
from app.words.i18n import gettext as _
from app.words.i18n import localized, ngettext, stored
from app.words.runs.states import state_word
from vezna.sending.connection import without_credentials

SKEW_SECONDS = 5.0


def database(settings: Settings) -> Iterator[Finding]:
    """Connection and revision of the database; then what it says of workers, what features check, and its clock."""
    file = Path(settings.database.removeprefix("sqlite:///"))
    sqlite = settings.database.startswith("sqlite")
    if sqlite and not file.exists():
        yield Finding(
            "database", "problem", _("There is no database %(file)s", file=file), _("Run: vezna migrate, or vezna up")
        )
        return
    if sqlite and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        yield Finding(
            "database",
            "problem",
            _("%(file)s or its directory is not writable", file=file),
            _("Change their permissions"),
        )
        return
    with ExitStack() as at_end:
        opened = Database(settings.database)
        at_end.callback(opened.dispose)
        try:
            migrate.require_current(opened)
            yield Finding(
                "database",
                "ok",
                _(
                    "%(database)s at revision %(revision)s",
                    database="SQLite" if sqlite else "PostgreSQL",
                    revision=migrate.head(),
                ),
            )
            yield from workers(opened, settings)
            for module in feature.modules("checks"):
                yield from module.check(opened, settings)
            if not sqlite:  # its clock is this machine's: the time since boot
                yield skew(opened)
        except Unavailable as error:
            yield Finding("database", "problem", localized(error.message).rstrip("."), _("Make a backup first"))
        except SQLAlchemyError as error:
            why = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
            yield Finding(
                "database",
                "problem",
                _("It does not answer: %(why)s", why=why),
                _("Start it, or correct VEZNA_DATABASE_URL"),
            )


def workers(database: Database, settings: Settings) -> Iterator[Finding]:
    """Workers by their heartbeats, and whether the control node rings for what waits."""
    with database.reading() as session:
        known = worker_service.live(session, settings)
        late = clock.now(session) - timedelta(seconds=2 * (settings.ring_again_seconds + settings.sweep_seconds))
        waiting = len(ringing.to_ring_again(session, late, lock=False))
    start = _("Start one: vezna up, or celery -A worker.celery worker -Q train")
    if not any(view.state != "lost" for view in known):
        yield Finding("workers", "problem", _("No worker that trains is running"), start)
    for view in known:
        said = _(
            "%(name)s is %(state)s, heartbeat %(age)s ago%(gpus)s",
            name=view.name,
            state=state_word(view.state),
            age=age(view.seconds_since_heartbeat),
            gpus=gpu_words(view),
        )
        if view.state == "lost":
            yield Finding("workers", "warning", said, _("Start it again, or ignore it if it was removed"))
        elif view.problem:
            yield Finding(
                "workers", "warning", f"{said}; {stored(view.problem).rstrip('.')}", _("Mend its GPU, then restart it")
            )
        else:
            yield Finding("workers", "ok", said)
        for gpu in (gpu for gpu in view.devices if gpu.problem and view.state != "lost"):
            yield Finding(
                "workers",
                "warning",
                _("%(worker)s lost %(gpu)s (%(uuid)s)", worker=view.name, gpu=gpu.name, uuid=gpu.uuid),
                stored(gpu.problem).rstrip("."),
            )
    if waiting and any(view.takes_runs for view in known):
        said = ngettext(
            "%(num)s queued run waits, though a worker could take it: no control node sweeps",
            "%(num)s queued runs wait, though a worker could take one: no control node sweeps",
            waiting,
        )
        yield Finding("control", "problem", said, _("Start it: celery -A worker.celery worker -Q control"))


def skew(database: Database) -> Finding:
    """This machine's clock against the database's. Leases use the database's; times on pages come from all hosts."""
    with database.reading() as session:
        before, theirs, after = datetime.now(UTC), clock.now(session), datetime.now(UTC)
    off = (theirs - before - (after - before) / 2).total_seconds()
    if abs(off) <= SKEW_SECONDS:
        return Finding("clock", "ok", _("The database's clock differs by %(seconds)s s", seconds=decimal(abs(off))))
    seconds = decimal(abs(off), 0)
    if off > 0:
        said = _("The database's clock is %(seconds)s s ahead of this machine's", seconds=seconds)
    else:
        said = _("The database's clock is %(seconds)s s behind this machine's", seconds=seconds)
    return Finding("clock", "warning", said, _("Synchronize both by NTP: no run is lost, but times shown are wrong"))


def broker(settings: Settings) -> Finding:
    if Doorbell(settings).answers():
        return Finding("broker", "ok", _("It answers"))
    return Finding(
        "broker", "problem", _("It does not answer"), _("Start it (vezna up has its own), or correct VEZNA_BROKER_URL")
    )


def files(settings: Settings) -> Finding:
    """Whether a file can be written to the store, read and removed."""
    content, where = b"vezna doctor", without_credentials(settings.files)
    try:
        store = Files(settings.files)
        with store.receive(len(content)) as incoming:
            incoming.write(content)
            name = incoming.done().file
        same = b"".join(store.chunks(name)) == content
        store.remove(name)
    except Exception as error:  # every kind of store has its own
        why = " ".join(str(error).replace(settings.files, where).split()).rstrip(".") or type(error).__name__
        return Finding("files", "problem", f"{where}: {why}", _("Check VEZNA_FILES_URL, permissions and credentials"))
    if not same:
        return Finding(
            "files",
            "problem",
            _("%(where)s returns other bytes than were written", where=where),
            _("Use another store"),
        )
    return Finding("files", "ok", _("%(where)s can be written and read", where=where))
