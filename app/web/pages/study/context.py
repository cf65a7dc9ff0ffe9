"""The context of a study's page: the verdict, its evidence, and where its runs stand."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.comparison.study import StudyComparison
from app.domain.comparison.verdict import VerdictKind
from app.domain.models.base_model import ModelFacts
from app.services.annotations import Notes
from app.web.address import Address
from app.web.figures.figure import Drawn
from app.web.figures.memory import OwnerRow, owner_rows
from app.web.figures.resource_parts import EstimatedCosts
from app.web.figures.time import TrainRow, train_rows
from app.web.figures.view import ViewParams
from app.web.pages.study.arms import StudyArms
from app.web.pages.study.choices import StudyChoices
from app.web.pages.study.conditions import StudyConditions
from app.web.pages.study.flips import StudyFlips
from app.web.pages.study.progress import StudyAdvance
from app.web.pages.study.references import OtherReference, other_references
from app.web.pages.study.tuning import FurtherRates, StudyTuning
from app.web.pages.study.weight_delta import StudyWeightDeltas
from app.web.text.caveats import Caveat, caveats
from app.web.text.facts import Fact, facts
from app.web.text.failures import failure_label, remedy
from app.web.text.headline import headline, summary
from app.web.text.lead import lead


@dataclass(frozen=True)
class Trouble:
    """A reason for which runs failed."""

    why: str
    runs: int
    message: str
    remedy: str


@dataclass(frozen=True)
class StudyPage:
    """A study."""

    id: int
    name: str
    headline: str
    lead: str
    plain: str
    """The answer in a sentence."""
    facts: tuple[Fact, ...]
    caveats: tuple[Caveat, ...]
    arms: StudyArms
    figures: Mapping[str, Drawn]
    view: ViewParams
    address: Address
    choices: StudyChoices
    advance: StudyAdvance
    conditions: StudyConditions
    flips: StudyFlips | None
    updates: StudyWeightDeltas | None
    """None until an arm has a result."""
    tuning: StudyTuning | None
    """None where no learning rate was looked for."""
    other_references: tuple[OtherReference, ...]
    """Empty unless the reference has no result and will have none."""
    troubles: tuple[Trouble, ...]
    notes: Notes
    margin: float
    """Points."""
    open: bool
    """An arm is undecided, or a hint only."""
    owner_rows: tuple[OwnerRow, ...]
    """Memory in numbers, over the arms that have costs."""
    energy_priced: bool
    """A price of energy can be typed in: a device has counted some, or one was typed in."""
    train_rows: tuple[TrainRow, ...]
    """Train time, predicted and measured, of the arms for which it was predicted."""

    @property
    def live(self) -> bool:
        """Runs are queued or at work."""
        return self.advance.live

    @property
    def has_results(self) -> bool:
        """An arm has a score."""
        return any(row.arm.score for row in self.arms.table.rows)

    @property
    def undecided(self) -> bool:
        """Seeds may be added, and would help."""
        return not self.live and bool(self.advance.would_decide)

    @property
    def rates_first(self) -> FurtherRates | None:
        """Where an arm is not decided: rates to look for before seeds are added, which measure the rates taken."""
        return self.tuning.further if self.tuning and self.open else None

    @classmethod
    def of(
        cls,
        study_id: int,
        found: StudyComparison,
        *,
        model: ModelFacts | None,
        figures: Mapping[str, Drawn],
        view: ViewParams,
        address: Address,
        advance: StudyAdvance,
        conditions: StudyConditions,
        flips: StudyFlips | None,
        updates: StudyWeightDeltas | None,
        estimates: Mapping[str, EstimatedCosts],
        tuning: StudyTuning | None,
        notes: Notes,
    ) -> "StudyPage":
        """From what was measured and drawn."""
        return cls(
            id=study_id,
            name=found.spec.name,
            headline=headline(found),
            lead=lead(found),
            plain=summary(found),
            facts=facts(found),
            caveats=caveats(found),
            arms=StudyArms.of(found, model, address, view.sort),
            figures=figures,
            view=view,
            choices=StudyChoices.of(found, view),
            address=address,
            advance=advance,
            conditions=conditions,
            flips=flips,
            updates=updates,
            tuning=tuning,
            other_references=other_references(study_id, found),
            troubles=tuple(
                Trouble(failure_label(reason), times, reason.message, remedy(reason))
                for reason, times in found.failures
            ),
            notes=notes,
            margin=found.spec.margin_points,
            open=any(arm.verdict_kind in (VerdictKind.UNDECIDED, VerdictKind.HINT) for arm in found.others),
            owner_rows=owner_rows(found, estimates),
            energy_priced=bool(view.kwh) or any(run.result.energy_joules for run in found.runs if run.result),
            train_rows=train_rows(found, estimates),
        )
