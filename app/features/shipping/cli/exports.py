"""`vezna export-model`: export a run's model, wait for it, and download its files, over REST."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from app.cli.client import Client
from app.cli.shared import LOCAL, Force, Json, Url, new_file, show
from app.cli.work import LIVE, once_succeeded
from app.domain.comparison.fairness.export_gate import ExportGate, GateOutcome
from app.domain.models.exports import ExportFormat
from app.features.shipping.cli.gate import gate_line
from app.features.shipping.words.exports import gate_difference, gate_reason, gate_unseen
from app.words.format import file_size
from app.words.i18n import gettext as _
from app.words.i18n import stored


def export_model(
    run: Annotated[int, typer.Argument(metavar="RUN", help="Number of the run.")],
    form: Annotated[
        ExportFormat | None, typer.Option("--format", help="What to write; without it, the formats are listed.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The tar archive. Default: run-RUN-FORMAT.tar.")
    ] = None,
    force: Force = False,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Export a run's adapter or its merged model, and download it with its checksums. The exit status is 1 if the
    export fails its gate."""
    client = Client(url)
    if form is None:
        show(client.get(f"/runs/{run}/export-formats"), as_json, _formats)
        return
    target = new_file(output or Path(f"run-{run}-{form.value}.tar"), force=force)
    export = _wanted(client, run, form)
    export = once_succeeded(client, "/exports", export, _("Export %(id)s", id=export["id"]))
    client.save(f"/exports/{export['id']}/archive", target)
    gate = ExportGate.model_validate(export["gate"])
    wrote = _("Wrote %(target)s, %(size)s.", target=target, size=file_size(export["bytes"]))
    show(export, as_json, lambda _export: [wrote, _gate(gate)], wrap=False)
    if gate.outcome is GateOutcome.FAIL:
        raise typer.Exit(1)


def _gate(gate: ExportGate) -> str:
    """`Gate: fail (−6.0 ± 2.2 points): loses at least 3.8 points.`"""
    reason = "; ".join(filter(None, [gate_reason(gate), gate_unseen(gate)]))
    return gate_line(_("Gate"), gate.outcome, gate_difference(gate), reason)


def _wanted(client: Client, run: int, form: ExportFormat) -> dict[str, Any]:
    """The run's export in a format: the one that it has, or a new one."""
    for export in client.get(f"/runs/{run}/exports"):
        if export["format"] == form.value and export["status"] in (*LIVE, "succeeded"):
            return dict(export)
    return dict(client.post(f"/runs/{run}/exports", {"format": form.value}))


def _formats(formats: list[dict[str, Any]]) -> Table | list[str]:
    if not formats:
        return [_("This run has saved no weights: it has not succeeded, or is a trial.")]
    table = Table(_("Format"), _("Size"), box=box.SIMPLE_HEAD)
    for form in formats:
        size = form["weights_bytes"]
        table.add_row(
            form["format"],
            stored(form["refused"]) if size is None else _("%(size)s (computed)", size=file_size(size)),
        )
    return table
