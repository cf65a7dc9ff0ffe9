"""Commands that ask a server, by REST: submit, estimate, watch, compare."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, console, errors, queued, read, say, show
from app.cli.terminal import memory_fit, progress
from app.cli.terminal.comparison import comparison_table, remarks, summary
from app.domain.errors import Invalid
from app.words.i18n import gettext as _
from app.words.i18n import stored

WAIT_SECONDS = 20
"""Long-poll time of a request for estimates."""
ESTIMATE_SECONDS = 180.0
"""Without a finished estimate for this long, there is probably no control worker."""


def submit(
    spec: Annotated[Path, typer.Argument(help="A run or a study, as YAML or JSON.")],
    url: Url = LOCAL,
    watch: Annotated[bool, typer.Option("--watch", help="Show its progress until it has ended.")] = False,
    insist: Annotated[
        bool,
        typer.Option(
            "--insist",
            help="Queue it even if the estimates of memory or trial time refuse it.",
        ),
    ] = False,
    external: Annotated[
        bool, typer.Option("--external", help="Declare a study whose runs are trained elsewhere, by scripts of yours.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Submit a run or a study."""
    client, body = Client(url), read(spec)
    if external:
        answer = client.post("/external-studies", body)
        address = f"{client.address}/external-studies/{answer['id']}"
        waits = _("Study %(id)s waits for reports of its runs: %(address)s", id=answer["id"], address=address)
        show(answer, as_json, lambda _answer: [waits])
        return
    kind = "studies" if "arms" in body else "runs"
    answer = client.post(f"/{kind}", body, insist=insist)
    show(answer, as_json, lambda answer: [queued(kind, answer["id"], client.address)])
    if not as_json and (warning := answer.get("warning")):
        say(_("Warning: %(warning)s", warning=stored(warning)), to=errors, wrap=False)
    if watch:
        _watch(client, kind, answer["id"], as_json)


def estimate(
    spec: Annotated[Path, typer.Argument(help="A run or a study, as YAML or JSON.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="A model's config.json, instead of the spec's base model.")
    ] = None,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Estimate memory and time of a run or a study on each worker and on well-known GPUs. Nothing is queued."""
    client, body = Client(url), read(spec)
    if config is not None:
        body = _on_config(body, read(config))
    with errors.status(_("Estimating")):
        answer = _settled(client, body)
    show(answer, as_json, memory_fit.estimates_table, memory_fit.fits_table, memory_fit.remarks)


def watch(
    ident: Annotated[int, typer.Argument(metavar="ID", help="A study's number; a run's with --run.")],
    run: Annotated[bool, typer.Option("--run", help="The number is a run's.")] = False,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Show the progress of a study or a run until it has ended. Exit status 1 if a run did not succeed."""
    _watch(Client(url), "runs" if run else "studies", ident, as_json)


def compare(
    studies: Annotated[list[int] | None, typer.Argument(metavar="ID…", help="Studies' numbers.")] = None,
    runs_named: Annotated[str, typer.Option("--runs", help="Any runs instead, of any study or imported: 1,2,3.")] = "",
    collection: Annotated[
        int | None, typer.Option("--collection", help="All runs of a collection, by its number.")
    ] = None,
    reference: Annotated[
        int | None,
        typer.Option("--reference", help="A run of the reference arm; default: the study's, or full."),
    ] = None,
    margin: Annotated[str, typer.Option("--margin", help="In points; default: the study's margin, or 1.")] = "",
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Print a study's verdict as a table and in a sentence, or compare any runs and name their confounders."""
    client = Client(url)
    if runs_named or collection is not None or margin or reference is not None:
        query = {"runs": runs_named, "study": studies, "collection": collection, "reference": reference}
        query["margin"] = margin
        answer = client.get("/compare", **{name: value for name, value in query.items() if value})
        show(answer, as_json, comparison_table, remarks)
        return
    if not studies:
        raise Invalid(_("Nothing is given to compare. Give the id of a study, --runs 1,2,3 or --collection 4."))
    comparisons = [client.get(f"/studies/{study}/comparison") for study in studies]
    show(comparisons, as_json)
    if not as_json:
        for comparison in comparisons:
            show(comparison, False, comparison_table, remarks, summary)


def _on_config(body: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The same methods on a model that is given by its configuration."""
    arms = body["arms"] if isinstance(body.get("arms"), list) else [body]
    methods = body.get("methods") or [arm.get("method") for arm in arms if isinstance(arm, dict)]
    kept = {name: value for name, value in body.items() if name in ("dataset", "task", "labels", "training")}
    return kept | {"config": config, "methods": methods}


def _settled(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Ask until all estimates have ended, or nothing has changed for a while."""
    left, changed_at = None, time.monotonic()
    while True:
        answer: dict[str, Any] = client.post("/estimates", body, wait=WAIT_SECONDS)
        if answer["pending"] != left:
            left, changed_at = answer["pending"], time.monotonic()
        if answer["settled"] or time.monotonic() - changed_at > ESTIMATE_SECONDS:
            return answer


def _watch(client: Client, kind: str, ident: int, as_json: bool) -> None:
    snapshots = client.events(f"/{kind}/{ident}/events")
    if as_json:
        last: dict[str, Any] = {}
        for last in snapshots:
            print(json.dumps(last, ensure_ascii=False), flush=True)
        ended = last.get("runs", [last])
    elif kind == "studies":
        ended = progress.follow_study(console, snapshots)["runs"]
        show_comparison(client, ident)
    else:
        ended = progress.follow_run(console, snapshots)["runs"]
    if any(run.get("status") != "succeeded" for run in ended):
        raise typer.Exit(1)


def show_comparison(client: Client, study_id: int) -> bool:
    """Print the verdict, as a table and in a sentence; whether every run succeeded."""
    comparison = client.get(f"/studies/{study_id}/comparison")
    show(comparison, False, comparison_table, remarks, summary)
    return all(set(arm["statuses"]) == {"succeeded"} for arm in comparison["arms"])
