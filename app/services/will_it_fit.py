"""Will it fit? Each arm's predicted need against each live worker and the well-known cards.

A page or a route asks with one of

    of_study(session, bell, settings, spec)       -> FitReport   arms of a study
    of_run(session, bell, settings, spec)         -> FitReport   one arm
    of_request(session, bell, settings, request)  -> FitReport   methods on a registered model or a pasted config
    of_submitted(session, bell, settings, run)    -> RunFit      a run's prediction beside its measurement, ways out
    map_of(session, bell, settings, question)     -> MapReport   method × length × batch on one device
    accuracy(session)                             -> list[Accuracy]
    refuse_misfit(session, bell, settings, spec)  raises Invalid where no live worker has room; before a submit

`bell` given: what is missing is asked for, so the session must be a transaction. `bell` None: a look, which writes
nothing; what nobody has asked for is `working` without an `estimate_id`. Ask once, then look until `settled`; ways out
are asked for once it is known that something does not fit, so ask again when a look finds `unasked`.

The answers are in `app.domain.fits`. Each raises Invalid as a submit would, for what does not fit what is registered.
"""

from sqlalchemy.orm import Session

from app.domain.fits import Accuracy, EstimateRequest, FitReport, MapQuestion, MapReport, RunFit
from app.domain.runs import RunSpec
from app.domain.studies import StudySpec
from app.queue import Doorbell
from app.settings import Settings
from app.store.tables import RunRow


def of_study(session: Session, bell: Doorbell | None, settings: Settings, spec: StudySpec) -> FitReport:
    """Every arm of a study. Raises Invalid."""
    raise NotImplementedError


def of_run(session: Session, bell: Doorbell | None, settings: Settings, spec: RunSpec) -> FitReport:
    """One arm. Raises Invalid."""
    raise NotImplementedError


def of_request(session: Session, bell: Doorbell | None, settings: Settings, request: EstimateRequest) -> FitReport:
    """An arm a method. Raises Invalid."""
    raise NotImplementedError


def of_submitted(session: Session, bell: Doorbell | None, settings: Settings, run: RunRow) -> RunFit:
    """A run's prediction beside its measurement; with ways out where memory ran out or it does not fit."""
    raise NotImplementedError


def map_of(session: Session, bell: Doorbell | None, settings: Settings, question: MapQuestion) -> MapReport:
    """Method × length × batch. Raises Invalid, and NotFound for a base model that is not registered."""
    raise NotImplementedError


def accuracy(session: Session) -> list[Accuracy]:
    """How well estimates have matched measurements, by device, precision and method."""
    raise NotImplementedError


def refuse_misfit(session: Session, bell: Doorbell | None, settings: Settings, spec: RunSpec | StudySpec) -> None:
    """Raise Invalid where an arm is known not to fit any live worker; what is not known yet passes."""
    raise NotImplementedError
