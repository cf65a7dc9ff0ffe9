"""The exports of a run: a section of its page, which is fetched again while a worker writes one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.domain.comparison.export_gate import ExportGate
from app.domain.models.exports import ExportFormat
from app.services import model_exports as service
from app.services.model_exports import Offer
from app.store.queries import base_models, datasets, model_exports, registry, runs
from app.store.tables import ModelExportRow, ModelVersionRow, RunRow
from app.web.bars import MarginScale
from app.web.format import file_size
from app.web.forms.once import OnceByForm
from app.web.http.dependencies import Bell, Db, Reading, RowId, Store
from app.web.i18n import gettext as _
from app.web.templating import Render
from app.web.text.exports import format_title, gate_difference
from app.web.text.serving import Command, ways_to_use
from app.web.text.snippets import Export

router = APIRouter(prefix="/runs/{run_id:int}/exports", include_in_schema=False)


@dataclass(frozen=True)
class RunExports:
    """A run's exports, and the formats in which it can be exported."""

    run_id: int
    rows: Sequence[ModelExportRow]
    offers: Sequence[Offer]
    """Empty for a run that has saved no weights."""
    family: str
    """The method's, for its colour."""
    margin: float
    """Of the study, or the default one, in the metric's unit."""
    ways: Mapping[int, Sequence[Command]]
    """How an export can be used, by its id; only for those that have ended well."""
    versions: Sequence[ModelVersionRow] = ()
    """Of registered models, those that are one of these exports."""

    @classmethod
    def of(cls, session: Session, run_id: int) -> "RunExports":
        """From the store."""
        run, rows = runs.get(session, run_id), model_exports.of_run(session, run_id)
        return cls(
            run_id,
            rows=rows,
            offers=service.offers(session, run),
            family="" if run.imported else run.spec.method.facts.family,
            margin=service.margin(session, run),
            ways={row.id: ways for row in rows if row.status == "succeeded" and (ways := _ways(session, run, row))},
            versions=registry.of_exports(session, [row.id for row in rows]),
        )

    def scale(self, gate: ExportGate) -> MarginScale:
        """An export's difference to the run."""
        label = _("%(by)s points, %(word)s", by=gate_difference(gate), word=gate.outcome.value)
        return MarginScale.placed(gate.delta, gate.low, gate.high, gate.margin, label)

    @property
    def live(self) -> bool:
        """One of them has not ended."""
        return any(row.status in model_exports.LIVE for row in self.rows)

    @property
    def refused(self) -> Mapping[str, list[ExportFormat]]:
        """Formats that do not suit the run, by the reason."""
        reasons: dict[str, list[ExportFormat]] = {}
        for offer in self.offers:
            if offer.refused:
                reasons.setdefault(str(offer.refused.sentence), []).append(offer.format)
        return reasons

    @property
    def choices(self) -> list[tuple[str, str]]:
        """Formats that can be exported now, with the size of their weights."""
        taken = {row.form for row in self.rows if row.status not in ("failed", "cancelled")}
        return [
            (offer.format.value, f"{format_title(offer.format)}, {file_size(offer.weights_bytes)}")
            for offer in self.offers
            if offer.format not in taken and not offer.refused
        ]


def _ways(session: Session, run: RunRow, row: ModelExportRow) -> list[Command]:
    model, dataset = base_models.by_id(session, run.base_model_id), datasets.by_id(session, run.dataset_id)
    assert model is not None and dataset is not None  # noqa: S101 foreign keys hold them
    hub = model.source == "hub"
    facts, positions = dataset.facts, model.facts.max_positions if model.facts else None
    folder, place = f"run-{run.id}-{row.format}", model.location if hub else f"path/to/{model.name}"
    return ways_to_use(
        Export(row.form, run.spec, folder, place, model.pinned if hub else "", facts.labels, facts.format, positions)
    )


@router.get("")
def section(session: Reading, render: Render, run_id: RowId) -> HTMLResponse:
    """The section, for htmx."""
    return render.page("run/exports.html", RunExports.of(session, run_id))


@router.post("")
def submit(
    db: Db,
    bell: Bell,
    files: Store,
    once: OnceByForm,
    run_id: RowId,
    form: Annotated[ExportFormat, Form(alias="format")],
) -> RedirectResponse:
    """Queue an export."""
    with db.transaction() as session:
        service.submit(session, bell, files, run_id, form)
        address = once.keep(session, f"/runs/{run_id}#exports")
    return RedirectResponse(address, status_code=303)


@router.post("/{export_id:int}/cancel")
def cancel(db: Db, run_id: RowId, export_id: RowId) -> RedirectResponse:
    """Cancel an export."""
    with db.transaction() as session:
        service.cancel(session, model_exports.get(session, export_id, run_id).id)
    return RedirectResponse(f"/runs/{run_id}#exports", status_code=303)


@router.post("/{export_id:int}/delete")
def delete(db: Db, files: Store, run_id: RowId, export_id: RowId) -> RedirectResponse:
    """Delete an export with its files."""
    with db.transaction() as session:
        service.delete(session, files, model_exports.get(session, export_id, run_id).id)
    return RedirectResponse(f"/runs/{run_id}#exports", status_code=303)
