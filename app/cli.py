"""`vezna`: start it, submit, watch, compare. What starts things works on the database, the rest by REST."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import uvicorn
import yaml
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from app import outside_files, sample, terminal, terminal_compared, terminal_fits
from app.client import Client
from app.domain.datasets import SAMPLE_DATASET, Row
from app.domain.errors import Invalid, Unavailable, VeznaError
from app.domain.models import SAMPLE_MODEL, ModelRegistration
from app.domain.runs import RunStatus
from app.domain.tasks import Format
from app.embedded import Stack, check, locked, stack
from app.queue import Doorbell
from app.services import datasets as dataset_service
from app.services import models as model_service
from app.services import studies as study_service
from app.settings import Settings, load
from app.store import migrate
from app.store.files import Files
from app.store.queries import base_models, runs, studies
from app.store.session import Database

cli = typer.Typer(
    help="Weighs full fine-tuning against LoRA: memory, time, quality, and how sure.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()
errors = Console(stderr=True, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Url = Annotated[str, typer.Option("--url", envvar="VEZNA_URL", help="Where the server is.")]
Port = Annotated[int | None, typer.Option("--port", help="Port of the web server (VEZNA_PORT).")]
LOCAL = "http://127.0.0.1:8000"
Form = Literal["csv", "json", "parquet"]
Exported = Literal["runs", "items", "steps"]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The file; - is standard output. Left out: one named after the study."),
]
INSPECTION_SECONDS = 180.0
WAIT_SECONDS = 20
"""Of a server that works predictions out; it answers sooner if it has them."""
ESTIMATE_SECONDS = 180.0
"""If no prediction has been finished for so long, nobody is there to make them."""
GRACE_SECONDS = 3
"""A stopping web server waits so long for answers that are under way; streams of events would never end."""


@cli.command()
def up(port: Port = None) -> None:
    """Start everything on this machine: database, broker, worker and web server."""
    with _everything(port) as running:
        console.print("Stop with Ctrl+C.")
        running.serve_forever()


@cli.command()
def demo(
    port: Port = None,
    exit_after: Annotated[
        bool, typer.Option("--exit", help="End when the study has ended; 0 if every run succeeded.")
    ] = False,
) -> None:
    """Start everything and run the sample study: full fine-tuning, LoRA and a linear probe on BBC headlines."""
    with _everything(port) as running:
        study_id = _sample_study(running.settings, running.require_alive)
        console.print(f"Study {study_id}, live: {running.url}/studies/{study_id}")
        client = Client(running.url)
        terminal.follow_study(console, running.while_alive(client.events(f"/studies/{study_id}/events")))
        succeeded = _show_comparison(client, study_id)
        if exit_after:
            raise typer.Exit(0 if succeeded else 1)
        console.print(f"The page: [bold]{running.url}/studies/{study_id}[/bold]. Stop with Ctrl+C.")
        running.serve_forever()


@cli.command()
def web() -> None:
    """Start the web server alone, where VEZNA_HOST and VEZNA_PORT say."""
    settings = _settings(None)
    database = Database(settings.database)
    migrate.require_current(database)
    database.dispose()
    # By its name: the other commands need nothing of the web, and start sooner without it.
    uvicorn.run(
        "app.main:serve", factory=True, host=settings.host, port=settings.port, timeout_graceful_shutdown=GRACE_SECONDS
    )


@cli.command(name="sample")
def submit_sample() -> None:
    """Register the sample model and headlines with a running installation and submit the sample study.

    Needs its database, broker and files (the same VEZNA_ settings), and the packages of `vezna[sample]`.
    """
    study_id = _sample_study(_settings(None), lambda: None)
    console.print(f"Study {study_id} is queued: /studies/{study_id}")


@cli.command()
def submit(
    spec: Annotated[Path, typer.Argument(help="A run or a study, as YAML or JSON.")],
    url: Url = LOCAL,
    watch: Annotated[bool, typer.Option("--watch", help="Show its progress until it has ended.")] = False,
    insist: Annotated[
        bool, typer.Option("--insist", help="Queue it though no worker is predicted to have room for it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Submit a run or a study."""
    client, body = Client(url), _read(spec)
    kind = "studies" if "arms" in body else "runs"
    answer = client.post(f"/{kind}", body, insist=insist)
    if as_json:
        _print_json(answer)
    else:
        console.print(
            f"{'Study' if kind == 'studies' else 'Run'} {answer['id']} is queued: {url}/{kind}/{answer['id']}",
            markup=False,
        )
        if warning := answer.get("plan", {}).get("warning"):
            errors.print(f"Warning: {warning}", markup=False, highlight=False)
    if watch:
        _watch(client, kind, answer["id"], as_json)


@cli.command()
def estimate(
    spec: Annotated[Path, typer.Argument(help="A run or a study, as YAML or JSON.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="A model's config.json, instead of the spec's base model.")
    ] = None,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Predict memory and time of a run or a study on each worker and on well-known cards. Nothing is queued."""
    client, body = Client(url), _read(spec)
    if config is not None:
        body = _on_config(body, _read(config))
    with errors.status("Working it out"):
        answer = _settled(client, body)
    if as_json:
        _print_json(answer)
        return
    console.print(terminal_fits.needs_table(answer))
    console.print(terminal_fits.fits_table(answer))
    for line in terminal_fits.remarks(answer):
        console.print(line, markup=False, highlight=False)


@cli.command()
def watch(
    ident: Annotated[int, typer.Argument(metavar="ID", help="A study's number; a run's with --run.")],
    run: Annotated[bool, typer.Option("--run", help="The number is a run's.")] = False,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Show progress until it has ended. Exit status 1 if a run did not succeed."""
    _watch(Client(url), "runs" if run else "studies", ident, as_json)


@cli.command()
def compare(
    studies: Annotated[list[int] | None, typer.Argument(metavar="ID…", help="Studies' numbers.")] = None,
    runs_named: Annotated[str, typer.Option("--runs", help="Any runs instead, of any study or imported: 1,2,3.")] = "",
    collection: Annotated[
        int | None, typer.Option("--collection", help="All runs of a collection, by its number.")
    ] = None,
    reference: Annotated[
        int | None, typer.Option("--reference", help="Of --runs and --collection: a run to hold the others against.")
    ] = None,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Print a study's verdict table, or that of any runs, with what makes them incomparable."""
    client = Client(url)
    if runs_named or collection is not None:
        query = {"runs": runs_named, "study": studies, "collection": collection, "reference": reference}
        answer = client.get("/compare", **{name: value for name, value in query.items() if value})
        if as_json:
            _print_json(answer)
            return
        console.print(terminal_compared.compared_table(answer))
        for line in terminal_compared.remarks(answer):
            console.print(line, markup=False, highlight=False)
        return
    if not studies:
        raise Invalid("nothing is named to compare: give a study's number, or --runs 1,2,3, or --collection 4")
    found = [client.get(f"/studies/{study}/comparison") for study in studies]
    if as_json:
        _print_json(found)
        return
    for comparison in found:
        console.print(terminal.verdict_table(comparison))


@cli.command()
def export(
    study: Annotated[int, typer.Argument(metavar="ID", help="A study's number.")],
    form: Annotated[Form, typer.Option("--format", help="Parquet and CSV are tables, JSON is the comparison.")] = "csv",
    what: Annotated[
        Exported, typer.Option(help="A row a run, a test item and run, or an optimizer step and run.")
    ] = "runs",
    output: Output = None,
    url: Url = LOCAL,
) -> None:
    """Write a study to a file: runs, scores of test items or step metrics as a table, or the comparison as JSON."""
    if form == "json":
        if what != "runs":
            raise Invalid(f"the {what} are a table: choose --format csv or --format parquet")
        _fetch(url, f"/studies/{study}/comparison", output, f"study-{study}.json")
        return
    _fetch(url, f"/studies/{study}/tables/{what}.{form}", output, f"study-{study}-{what}.{form}")


@cli.command()
def report(
    study: Annotated[int, typer.Argument(metavar="ID", help="A study's number.")],
    output: Output = None,
    url: Url = LOCAL,
) -> None:
    """Write a study's page as one HTML file: it opens offline, and prints."""
    _fetch(url, f"/studies/{study}/report", output, f"study-{study}.html")


@cli.command(name="import")
def import_results(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE|DIR…", help="Result files, or directories of .json files.")
    ],
    collection: Annotated[
        str, typer.Option("--collection", help="The name under which they lie together; left out: the directory's.")
    ] = "",
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Bring results from elsewhere in, as runs marked as imported. Exit status 1 if a file was refused."""
    client, files = Client(url), outside_files.found(paths)
    name = collection or (paths[0].resolve().name if len(paths) == 1 and paths[0].is_dir() else "imported")
    total = outside_files.Total(name)
    for part in outside_files.parts(files):
        total.send(client, part)
    if as_json:
        _print_json(total.as_json)
    else:
        for line in total.lines(url):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if total.refused:
        raise typer.Exit(1)


@cli.command(name="migrate")
def migrate_database() -> None:
    """Bring the database up to date."""
    settings = _settings(None)
    _migrate(settings)
    console.print("The database is up to date.")


def main() -> None:
    """Entry point: an error of ours is one sentence on standard error and exit status 1."""
    signal.signal(signal.SIGTERM, _leave)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it stays ignored
        signal.signal(signal.SIGHUP, _leave)
    try:
        cli(standalone_mode=True)
    except Invalid as error:
        errors.print(error.message, style="red", highlight=False, markup=False)
        for field in error.fields:
            remedy = f" ({field.remedy})" if field.remedy else ""
            errors.print(f"  {field.path}: {field.message}{remedy}", highlight=False, markup=False)
        sys.exit(1)
    except VeznaError as error:
        errors.print(error.message, style="red", highlight=False, markup=False)
        sys.exit(1)
    except SQLAlchemyError as error:
        why = " ".join(str(getattr(error, "orig", None) or error).split())
        errors.print(f"The database does not answer: {why}", style="red", highlight=False, markup=False)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        errors.print(f"{where}{error.strerror or error}", style="red", highlight=False, markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _leave(_number: int, _frame: object) -> None:
    """SIGTERM, and SIGHUP of a closed terminal, end a command as Ctrl+C does: what it has started is stopped first."""
    raise KeyboardInterrupt


def _settings(port: int | None) -> Settings:
    return load() if port is None else load(port=port)


@contextmanager
def _everything(port: int | None) -> Iterator[Stack]:
    """All of Vezna, running, in a home that no other process has."""
    settings = _settings(port)
    check(settings)
    with locked(settings.home):
        _migrate(settings)
        with stack(settings) as running:
            console.print(f"Vezna is at [bold]{running.url}[/bold], its data in {escape(str(settings.home))}.")
            yield running


def _migrate(settings: Settings) -> None:
    database = Database(settings.database)
    migrate.upgrade(database)
    database.dispose()


def _read(path: Path) -> dict[str, Any]:
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(body, dict):
        raise Invalid(f"{path} holds no run and no study: see examples/run.yaml and examples/study.yaml")
    try:
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"{path} says something that JSON cannot ({error}): put quotes around a date, and no .nan"
        ) from error
    return body


def _on_config(body: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The same methods on a model of which only the configuration is there."""
    arms = body["arms"] if isinstance(body.get("arms"), list) else [body]
    methods = body.get("methods") or [arm.get("method") for arm in arms if isinstance(arm, dict)]
    kept = {name: value for name, value in body.items() if name in ("dataset", "task", "labels", "training")}
    return kept | {"config": config, "methods": methods}


def _settled(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Ask until all is worked out, or nothing has changed for a while."""
    left, changed_at = None, time.monotonic()
    while True:
        answer: dict[str, Any] = client.post("/estimates", body, wait=WAIT_SECONDS)
        if answer["pending"] != left:
            left, changed_at = answer["pending"], time.monotonic()
        if answer["settled"] or time.monotonic() - changed_at > ESTIMATE_SECONDS:
            return answer


def _sample_study(settings: Settings, still_alive: Callable[[], None]) -> int:
    """The sample study of this database: the one that is there and not spoilt, else a new one."""
    labels, rows = sample.headlines()
    database, files, bell = Database(settings.database), Files(settings.files), Doorbell(settings)
    with database.transaction() as session:
        known = studies.by_name(session, sample.STUDY_NAME)
        if known is not None and known.spec == sample.study():
            spoilt = (RunStatus.FAILED, RunStatus.CANCELLED)
            if not any(run.status in spoilt for run in runs.of_study(session, known.id)):
                return known.id
        dataset_service.register(
            session, files, name=SAMPLE_DATASET, title=sample.TITLE, form="labelled", labels=labels, rows=rows
        )
        others: tuple[tuple[str, str, Format, Sequence[Row]], ...] = (
            (sample.SUMMARIES, sample.SUMMARIES_TITLE, "prompt-completion", sample.summaries()),
            (sample.GENERAL_TEXT, sample.GENERAL_TEXT_TITLE, "text", sample.general_text()),
        )
        for name, title, form, more in others:
            dataset_service.register(session, files, name=name, title=title, form=form, rows=more)
        wanted = ModelRegistration(name=SAMPLE_MODEL, source="sample")
        model_service.register(session, bell, wanted, settings.model_roots)
    with console.status("Inspecting the base model"):
        _wait_for_model(database, still_alive)
    with database.transaction() as session:
        return study_service.submit(session, bell, sample.study()).id


def _wait_for_model(database: Database, still_alive: Callable[[], None]) -> None:
    deadline = time.monotonic() + INSPECTION_SECONDS
    while True:
        still_alive()
        with database.reading() as session:
            model = base_models.by_name(session, SAMPLE_MODEL)
        if model is not None and model.status == "ready":
            return
        if model is None or model.status == "failed" or time.monotonic() > deadline:
            why = model.message if model and model.message else "no worker answered; is the control worker running?"
            raise Unavailable(f"The base model {SAMPLE_MODEL} could not be inspected: {why}")
        time.sleep(0.3)


def _watch(client: Client, kind: str, ident: int, as_json: bool) -> None:
    snapshots = client.events(f"/{kind}/{ident}/events")
    if as_json:
        last: dict[str, Any] = {}
        for last in snapshots:
            print(json.dumps(last, ensure_ascii=False), flush=True)
        ended = last.get("runs", [last])
    elif kind == "studies":
        ended = terminal.follow_study(console, snapshots)["runs"]
        _show_comparison(client, ident)
    else:
        ended = terminal.follow_run(console, snapshots)["runs"]
    if any(run.get("status") != "succeeded" for run in ended):
        raise typer.Exit(1)


def _show_comparison(client: Client, study_id: int) -> bool:
    """Print the verdict table; whether every run succeeded."""
    comparison = client.get(f"/studies/{study_id}/comparison")
    console.print(terminal.verdict_table(comparison))
    console.print(comparison["sentence"], markup=False, highlight=False)
    return all(set(arm["runs"]) == {"succeeded"} for arm in comparison["arms"])


def _fetch(url: str, path: str, output: Path | None, name: str) -> None:
    """Write a file of the server's."""
    client = Client(url)
    if output == Path("-"):
        client.download(path, sys.stdout.buffer)
    else:
        target = output or Path(name)
        client.save(path, target)
        console.print(f"{target} is written.", markup=False, highlight=False)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
