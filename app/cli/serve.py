"""Commands that start things: everything at once, the web server alone, the sample study. They work on the database."""

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Annotated, Any

import typer
import uvicorn
from rich.markup import escape
from sqlalchemy.orm import Session

from app.broker.embedded import Stack, check, stack
from app.broker.queue import Doorbell
from app.cli.client import Client
from app.cli.shared import console, queued
from app.cli.studies.studies import show_comparison
from app.cli.terminal import progress
from app.domain.errors import Invalid, Unavailable
from app.domain.runs.status import RunStatus
from app.domain.studies.spec import StudySpec
from app.domain.tasks import DEFAULT_TASK
from app.imports import import_large
from app.samples import samples as sample
from app.services.data import datasets as dataset_service
from app.services.data import samples
from app.services.studies import defaults as study_defaults
from app.services.studies import studies as study_service
from app.services.users import first_start
from app.settings import Settings, load
from app.settings.home import locked, private_files
from app.store.database import migrate
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.models import queries as base_models
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import DatasetRow, StudyRow
from app.words.format import join_names
from app.words.i18n import gettext as _
from app.words.i18n import stored

SampleTask = Annotated[sample.SampleTask, typer.Option("--task", help="What the sample model learns.")]
Port = Annotated[int | None, typer.Option("--port", help="Port of the web server (VEZNA_PORT).")]
INSPECTION_SECONDS = 180.0
BASELINE_SECONDS = 300.0
"""After the last run; each baseline has a deadline of its own, too (`worker.estimation.host`)."""
MOST_CONNECTIONS = 2500
"""A thousand event streams, and the readers. One more connection is answered 503."""
GRACE_SECONDS = 3
"""Time that a stopping web server waits for open responses; event streams would never end."""


def up(port: Port = None) -> None:
    """Start everything on this machine: database, broker, worker and web server."""
    with _everything(port) as running:
        _name_first_admin_link(running)
        console.print(_("Stop with Ctrl+C."))
        running.serve_forever()


def demo(
    port: Port = None,
    task: SampleTask = DEFAULT_TASK,
    exit_after: Annotated[
        bool,
        typer.Option("--exit", help="End after the study's last run and its baselines; 0 if every run succeeded."),
    ] = False,
) -> None:
    """Start everything and run the sample study: full fine-tuning, LoRA on all linear layers, LoRA on query and value
    alone, and a linear probe on BBC headlines. With `--task causal-lm` SmolLM2 writes the headlines, and with `--task
    preference` it learns which replies are preferred; with `--task sentence-embeddings` MiniLM finds articles by them,
    and with `--task token-classification` it tags names in synthetic sentences. With `--task
    image-classification` a small vision transformer reads handwritten digits."""
    part = sample.of_task(task)
    if _settings(port).for_up().login_required:
        raise Invalid(
            _(
                "vezna demo starts a server without login, which only this machine can reach, but VEZNA_LOGIN, "
                "VEZNA_HOST, VEZNA_ALLOWED_HOSTS, VEZNA_URL or VEZNA_FORWARDED_ALLOW_IPS says otherwise. Unset it, or "
                "use vezna up and vezna sample."
            )
        )
    with _everything(port) as running:
        study_id = sample_study(running.settings, running.require_alive, part)
        page = f"{running.url}/studies/{study_id}"
        console.print(_("Study %(id)s, live: %(url)s", id=study_id, url=page))
        client = Client(running.url)
        progress.follow_study(console, running.while_alive(client.events(f"/studies/{study_id}/events")))
        await_baselines(client, study_id, running.require_alive)
        succeeded = show_comparison(client, study_id)
        if exit_after:
            raise typer.Exit(0 if succeeded else 1)
        console.print(_("The page: %(url)s. Stop with Ctrl+C.", url=f"[bold]{page}[/bold]"))
        running.serve_forever()


def await_baselines(client: Client, study_id: int, still_alive: Callable[[], None]) -> None:
    """Wait until no baseline is being computed: whether fine-tuning helps depends on them, and a short study may end
    before them. After BASELINE_SECONDS say which are left, and go on."""
    deadline = time.monotonic() + BASELINE_SECONDS
    with console.status("") as status:
        while waiting := _unfinished_baselines(client, study_id):
            if time.monotonic() > deadline:
                console.print(
                    _("Not computed yet: %(waiting)s. Baselines are computed while Vezna runs.", waiting=waiting)
                )
                return
            status.update(_("Waiting for baselines: %(waiting)s", waiting=waiting))
            still_alive()
            time.sleep(1)


def _unfinished_baselines(client: Client, study_id: int) -> str:
    baselines = client.get(f"/studies/{study_id}/comparison")["baselines"]
    return ", ".join(known["title"] for known in baselines if known["status"] == "working")


def _name_first_admin_link(running: Stack) -> None:
    """Print the link that creates the first admin, where login is required and there is no user."""
    if not running.settings.login_required:
        return
    database = Database(running.settings.database)
    if path := first_start.prepare(database, running.settings):
        console.print(
            _(
                "Create the first admin, within %(hours)s hours: %(url)s",
                hours=first_start.HOURS,
                url=f"{running.url}{path}",
            ),
            soft_wrap=True,
        )
    database.dispose()


def web() -> None:
    """Start the web server alone, where VEZNA_HOST and VEZNA_PORT say."""
    settings = _settings(None)
    database = Database(settings.database)
    migrate.require_current(database)
    database.dispose()
    _allow_many_files()
    import_large("app.main")
    server = uvicorn.Server(uvicorn.Config(**server_options(settings)))
    with suppress(KeyboardInterrupt):
        server.run(_sockets(server.config, settings))
    if not server.started:
        raise typer.Exit(3)


def server_options(settings: Settings) -> dict[str, Any]:
    return {
        # By name: the other commands do not need the web modules, and start faster without them.
        "app": "app.main:serve",
        "factory": True,
        "host": settings.host,
        "port": settings.port,
        "http": "app.web.http.middleware.connections:LimitedConnection",
        "limit_concurrency": MOST_CONNECTIONS,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "proxy_headers": bool(settings.forwarded_allow_ips),
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        "server_header": False,
    }


def _sockets(config: uvicorn.Config, settings: Settings) -> list[socket.socket] | None:
    """The server's socket and that of the probes; None if they share one. Raises Unavailable."""
    if settings.metrics is None:
        return None
    host = settings.metrics[0]
    try:
        probes = socket.create_server(settings.metrics, family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Unavailable(
            _(
                "VEZNA_METRICS_ADDRESS=%(address)s cannot be listened to (%(why)s). Choose another port, or an address "
                "of this machine.",
                address=settings.metrics_address,
                why=error.strerror,
            )
        ) from error
    return [config.bind_socket(), probes]


def _allow_many_files() -> None:
    """Raise the soft limit of open files, which is 1,024 on many systems: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS * 2
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def submit_sample(task: SampleTask = DEFAULT_TASK) -> None:
    """Register the model and data of a sample with a running installation and submit its study.

    Needs its database, broker and files (the same VEZNA_ settings), and the packages of `vezna[sample]`.
    """
    study_id = sample_study(_settings(None), lambda: None, sample.of_task(task))
    console.print(queued("studies", study_id))


def migrate_database() -> None:
    """Bring the database up to date."""
    settings = _settings(None)
    _migrate(settings)
    console.print(_("The database is up to date."))


def _settings(port: int | None) -> Settings:
    return load() if port is None else load(port=port)


@contextmanager
def _everything(port: int | None) -> Iterator[Stack]:
    """The running processes of Vezna, in a home directory that no other process uses."""
    settings = _settings(port).for_up()
    with locked(settings.home) if settings.home.exists() else nullcontext():
        check(settings)  # names a second start in this home, and creates no home if the start is impossible
    with private_files(settings.home), locked(settings.home):
        _migrate(settings)
        with stack(settings) as running:
            console.print(
                _(
                    "Vezna is at %(url)s, its data in %(home)s.",
                    url=f"[bold]{running.url}[/bold]",
                    home=escape(str(settings.home)),
                )
            )
            yield running


def _migrate(settings: Settings) -> None:
    database = Database(settings.database)
    migrate.upgrade(database)
    database.dispose()


def sample_study(settings: Settings, still_alive: Callable[[], None], part: sample.Sample | None = None) -> int:
    """A sample's study in this database (by default that of classification): an existing one without failed or
    cancelled runs, otherwise a new one."""
    part = part or sample.of_task(DEFAULT_TASK)
    database, files, bell = Database(settings.database), Files(settings.files), Doorbell(settings)
    with database.transaction() as session:
        packaged, dataset = samples.register(session, bell, files, settings.model_roots, part)
        model = packaged.name
        spec = part.study(dataset_service.shortest_reference(session, dataset), model)
        known = studies.by_name(session, spec.name)
        if known:
            why = _unlike_today(session, known, dataset, part, model)
            if not why:
                return known.id
            console.print(
                _("Study %(id)s of the sample is not continued, and a new one starts: %(why)s.", id=known.id, why=why)
            )
        data = partial(dataset_service.register, session, files)
        pairs = partial(data, title=sample.SUMMARIES_TITLE, form="prompt-completion", rows=sample.summaries())
        samples.beside(sample.SUMMARIES, pairs)
        texts = partial(data, title=sample.GENERAL_TEXT_TITLE, form="text", rows=sample.general_text())
        samples.beside(sample.GENERAL_TEXT, texts)
    with console.status(_("Inspecting the base model")):
        _wait_for_model(database, model, still_alive)
    with database.transaction() as session:
        return study_service.submit(session, bell, spec).id


def _unlike_today(session: Session, known: StudyRow, dataset: DatasetRow, part: sample.Sample, model: str) -> str:
    """Why a stored study is not that of the sample today, with the default rates for its base model; empty if it is.

    Its runs are what counts: a study from before there was a choice keeps its question and its margin."""
    if known.dataset_id != dataset.id:
        return _("its data differ from those of this version of Vezna")
    row, spec = base_models.by_name(session, model), known.spec
    if row is None or known.base_model_id != row.id:
        return _("its base model is another one")
    today = study_defaults.with_default_rates(part.study(spec.dataset, model), row)
    differs = [name for name in StudySpec.model_fields if getattr(spec, name) != getattr(today, name)]
    if other := [name for name in differs if name not in ("alternative", "margin_points")]:
        return _("its %(fields)s differ from those of this version of Vezna", fields=join_names(other))
    spoilt = (RunStatus.FAILED, RunStatus.CANCELLED)
    if any(run.status in spoilt for run in runs.of_study(session, known.id)):
        return _("some of its runs failed or were cancelled")
    return ""


def _wait_for_model(database: Database, name: str, still_alive: Callable[[], None]) -> None:
    deadline = time.monotonic() + INSPECTION_SECONDS
    while True:
        still_alive()
        with database.reading() as session:
            model = base_models.by_name(session, name)
        if model is not None and model.status == "ready":
            return
        if model is None or model.status == "failed" or time.monotonic() > deadline:
            unanswered = _("no worker answered. Check that a control worker runs")
            why = stored(model.message) if model and model.message else unanswered
            raise Unavailable(_("The base model %(name)s could not be inspected: %(why)s", name=name, why=why))
        time.sleep(0.3)
