"""What the pitfalls show: names that a model lacks, a rank that is too high, a base that was left trainable."""

from dataclasses import dataclass

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.domain.errors import FieldError
from app.domain.methods import LoraSpec
from app.domain.models.adaptations import Adaptation, adaptation
from app.domain.models.architecture import short_names
from app.features.lab.computations import Freezing, FreezingRequest, FreezingSide
from app.features.lab.pages.topics.calculator import WELL_KNOWN, Calculator
from app.features.lab.services import computations as lab_computations
from app.features.lab.services import learner as lab
from app.features.lab.services import studies as lab_studies
from app.features.lab.services.computations import Computation
from app.services.data import samples
from app.services.resources.requests import model_fields
from app.settings import Settings
from app.store.studies import queries as studies
from app.web.figures.figure import Drawn, drawn
from app.web.figures.studies.study import StudyData, study_figure
from app.web.figures.studies.view import ViewParams

TRAP, NAMES = f"{WELL_KNOWN}BERT-base", "q, v"
"""The names of the course's second example, on a model that has other ones."""
MOST_TEXT = 300
SIDE = 384
"""Of a square matrix of the sample model."""


@dataclass(frozen=True)
class IncompatibleModules:
    """Target modules by name on a model: what would train, or why it is refused."""

    calculator: Calculator
    names: str
    adapted: Adaptation
    valid: tuple[str, ...]

    @classmethod
    def of(cls, session: Session, query: QueryParams) -> "IncompatibleModules":
        """From the address: `model` and `names`."""
        calculator = Calculator.of(session, query if "model" in query else QueryParams({"model": TRAP}))
        names = query.get("names", NAMES)[:MOST_TEXT]
        listed = [name for name in names.replace(",", " ").split() if name.isprintable()]
        spec = LoraSpec(target_modules=listed or ["-"])
        model = calculator.model
        return cls(calculator, names, adaptation(spec, model), tuple(short_names(model.linear)))

    @property
    def refusal(self) -> FieldError | None:
        """Why it is refused."""
        return self.adapted.incompatibility


@dataclass(frozen=True)
class RankTooHigh:
    """A ladder of ranks: what each would train, and what the learner's own ladder measured."""

    calculator: Calculator
    ladder: tuple[tuple[int, int, float], ...]
    """Rank, parameters of A and B of one square matrix of the sample, and their share of the matrix itself."""
    study: int | None
    """The newest ladder of the learner; None before one is started."""
    figure: Drawn | None
    """Scores by trainable parameters; None until a ladder has ended and learned something."""

    @classmethod
    def of(cls, session: Session, settings: Settings, query: QueryParams) -> "RankTooHigh":
        ladder = tuple((rank, 2 * SIDE * rank, 2 * rank / SIDE) for rank in lab_studies.LADDER)
        name = lab_studies.PLANS[lab_studies.RANKS][0]
        row = studies.by_name(session, name)
        teaches = (
            next((own for own, _shown in lab.teaching_studies(session) if own.name == name), None) if row else None
        )
        figure = None
        if teaches is not None:
            data, view = StudyData(session, settings, teaches.id), ViewParams(x="trainable")
            if any(arm.score for arm in data.comparison.arms):
                found = study_figure(data, view, "trade-off")
                figure = drawn(found, f"/studies/{teaches.id}/charts", view.query("trade-off"))
        return cls(Calculator.of(session, query), ladder, row.id if row else None, figure)


@dataclass(frozen=True)
class WrongFreezing:
    """LoRA on the sample with its base frozen and with its base left trainable."""

    check: Computation | None
    """None until the sample is ready."""

    @classmethod
    def of(cls, session: Session) -> "WrongFreezing":
        model, dataset = sample = samples.registered(session)
        if model is None or dataset is None or not sample.ready:
            return cls(None)
        request = FreezingRequest(
            **model_fields(model), rows_file=dataset.file, labels=max(2, len(dataset.facts.labels))
        )
        return cls(lab_computations.stored(session, request))

    @property
    def result(self) -> Freezing | None:
        """Once both trainings have ended."""
        answer = self.check.answer if self.check else None
        return answer if isinstance(answer, Freezing) else None

    @property
    def sides(self) -> tuple[FreezingSide, ...]:
        """Frozen and unfrozen; empty before they have ended."""
        return (self.result.frozen, self.result.unfrozen) if self.result else ()
