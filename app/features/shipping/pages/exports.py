"""The exports of a run: a section of its page, which is fetched again while a worker writes one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.domain.comparison.fairness.export_gate import ExportGate
from app.domain.models.exports import ExportFormat
from app.features.shipping.queries import registry
from app.features.shipping.services import exports as service
from app.features.shipping.services import model_cards
from app.features.shipping.services.offers import Offer, offers
from app.features.shipping.services.work import EXPORTS
from app.features.shipping.tables import ModelExportRow, ModelVersionRow
from app.features.shipping.words.exports import format_title, gate_difference
from app.features.shipping.words.model_card import described
from app.features.shipping.words.uses import Command, ways_to_use
from app.store.runs import queries as runs
from app.store.tables import RunRow
from app.web.bars import MarginScale
from app.web.forms.once import OnceByForm
from app.web.http.dependencies import Bell, Db, Reading, RowId, Store
from app.web.templating import Render
from app.words.format import duration, file_size
from app.words.i18n import gettext as _

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
        run, rows = runs.get(session, run_id), EXPORTS.of(session, run_id)
        return cls(
            run_id,
            rows=rows,
            offers=offers(session, run),
            family="" if run.imported else run.spec.method.facts.family,
            margin=service.margin(session, run),
            ways={row.id: ways for row in rows if row.status == "succeeded" and (ways := _ways(session, row.id))},
            versions=registry.of_exports(session, [row.id for row in rows]),
        )

    def scale(self, gate: ExportGate) -> MarginScale:
        """An export's difference to the run."""
        label = _("%(by)s points, %(word)s", by=gate_difference(gate), word=gate.outcome.value)
        return MarginScale.placed(gate.delta, gate.low, gate.high, gate.margin, label)

    @property
    def live(self) -> bool:
        """One of them has not ended."""
        return any(row.live for row in self.rows)

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
            (offer.format.value, _choice(offer))
            for offer in self.offers
            if offer.format not in taken and not offer.refused
        ]


def _choice(offer: Offer) -> str:
    """`GGUF Q8_0, 137 MiB, about 2 min`."""
    choice = f"{format_title(offer.format)}, {file_size(offer.weights_bytes)}"
    if offer.seconds is None:
        return choice
    return _("%(choice)s, about %(time)s", choice=choice, time=duration(offer.seconds))


def _ways(session: Session, export_id: int) -> list[Command]:
    return ways_to_use(described(model_cards.of_export(session, export_id)))


def section_of(session: Session, run: RunRow) -> RunExports | None:
    """Of the run's page; None for a run that has saved no weights."""
    exports = RunExports.of(session, run.id)
    return exports if exports.offers else None


@router.get("")
def section(session: Reading, render: Render, run_id: RowId) -> HTMLResponse:
    """The section, for htmx."""
    return render.page("shipping/exports.html", RunExports.of(session, run_id))


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
        EXPORTS.cancel(session, EXPORTS.get(session, export_id, run_id).id)
    return RedirectResponse(f"/runs/{run_id}#exports", status_code=303)


@router.post("/{export_id:int}/delete")
def delete(db: Db, files: Store, run_id: RowId, export_id: RowId) -> RedirectResponse:
    """Delete an export with its files."""
    with db.transaction() as session:
        service.delete(session, files, EXPORTS.get(session, export_id, run_id).id)
    return RedirectResponse(f"/runs/{run_id}#exports", status_code=303)
