"""Device time that runs are predicted to take, before they are queued: what a user's quota reserves for them.

    seconds = devices × (train time + loading, evaluations, saving)

    train time   by the resource estimate for the worker that will probably take the run; without one, by similar runs;
                 without any, assumed
    the rest     as measured: the median of past runs of the base model on the data; 0 without any

A trial of a shorter budget trains for its share of it. What tuning will queue later is reserved with the study, by arm.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from sqlalchemy.orm import Session

from app.domain.resources.device_time import ASSUMED_SECONDS, Basis
from app.domain.resources.estimate import ResourceEstimate
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import OwedRun, StudySpec
from app.domain.studies.tuning.search_space import Configuration
from app.domain.studies.tuning.tuning import RandomTuning, TpeTuning, runs_worth
from app.domain.tasks import TASKS
from app.services.resources import estimates
from app.services.resources.calibration import Calibrations
from app.services.resources.devices import of_worker
from app.services.resources.requests import run_request
from app.services.resources.similar_runs import passes, similar_train_seconds
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.resources import estimates as estimate_queries
from app.store.resources import past_runs
from app.store.resources.past_runs import PastRun
from app.store.tables import BaseModelRow, DatasetRow

WORST = tuple(Basis)


@dataclass(frozen=True)
class Prediction:
    train_seconds: float
    other_seconds: float
    """To load, evaluate and save."""
    devices: int
    basis: Basis
    tokens: float | None = None
    """That it trains on; None where no estimate says it."""

    @property
    def device_seconds(self) -> float:
        """The time times the number of devices."""
        return self.devices * (self.train_seconds + self.other_seconds)

    def shortened(self, share: float) -> float:
        """Device-seconds of a run that trains for a share of it."""
        return self.devices * (self.train_seconds * share + self.other_seconds)


class Predictor:
    """Predictions for runs of a base model on data. What they rest on is read once."""

    def __init__(self, session: Session, model: BaseModelRow, dataset: DatasetRow, owner_id: int | None) -> None:
        """`owner_id`: the owner of the runs, whose estimates count where the base model needs a hub token."""
        self._session, self._model, self._dataset, self._owner_id = session, model, dataset, owner_id
        self._calibrations = Calibrations(session)
        self._past: list[PastRun] | None = None
        beside = past_runs.beside_training(session, model.id, dataset.id)
        self._other_seconds = max(0.0, median(beside)) if beside else 0.0
        self._by_arm: dict[str, tuple[Prediction, TrainingBudget]] = {}
        self.bases: set[Basis] = set()

    @property
    def basis(self) -> Basis:
        """The weakest basis of the predictions so far."""
        return max(self.bases, key=WORST.index, default=Basis.ESTIMATE)

    def of_run(self, spec: RunSpec) -> Prediction:
        seconds, reference, estimate = self._estimated(spec)
        basis = Basis.ESTIMATE
        if seconds is None:
            if self._past is None:
                self._past = past_runs.succeeded(self._session, self._model.id, self._dataset.id)
            seconds, _device = similar_train_seconds(spec, self._past)
            basis = Basis.SIMILAR_RUNS
        if seconds is None:
            seconds, basis = ASSUMED_SECONDS, Basis.ASSUMED
        self.bases.add(basis)
        tokens = estimate.lengths.mean * estimate.lengths.rows * passes(spec.training) if estimate else None
        return Prediction(seconds, max(self._other_seconds, reference), spec.training.devices, basis, tokens)

    def of_arm(self, study: StudySpec, arm: ArmSpec) -> Prediction:
        """For a run of an arm with the full budget, at the arm's own settings."""
        if arm.title not in self._by_arm:
            run = study.run(arm, study.seeds[0], Configuration())
            self._by_arm[arm.title] = self.of_run(run), run.training
        return self._by_arm[arm.title][0]

    def of_owed(self, study: StudySpec, owed: OwedRun) -> float:
        """Device-seconds of a run that a study owes."""
        full = self.of_arm(study, study.arm(owed.arm))
        return full.shortened(_share(owed.spec.training, self._by_arm[owed.arm][1]))

    def of_tuned(self, study: StudySpec, arm: ArmSpec) -> float:
        """Device-seconds of all runs of an arm of a tuned study: its trials, and its runs that count."""
        full, tuning = self.of_arm(study, arm), study.tuning
        runs = len(study.seeds) * full.device_seconds
        if not isinstance(tuning, RandomTuning | TpeTuning) or tuning.unit == "trials":
            return runs + (runs_worth(tuning, study.space(arm)) or 0.0) * full.device_seconds
        if tuning.unit == "seconds":
            return runs + tuning.budget * full.devices
        rows = self._dataset.facts.counts["train"]
        longest = TASKS[study.task].sequences * study.training_of(arm).max_length
        tokens = full.tokens or rows * passes(study.training_of(arm)) * longest
        return runs + tuning.budget / max(1.0, tokens) * full.device_seconds

    def _estimated(self, spec: RunSpec) -> tuple[float | None, float, ResourceEstimate | None]:
        """Train time and the time of DPO's reference by the resource estimate; None and 0 where that, or the device's
        rate, is not known."""
        worker = estimates.likely_worker(self._session, spec)
        if worker is None:
            return None, 0.0, None
        device = of_worker(worker)
        request = run_request(spec, self._model, self._dataset, self._owner_id).on_device(device.kind, device.bf16)
        row = estimate_queries.by_keys(self._session, [request.key]).get(request.key)
        estimate = row.estimate if row else None
        if estimate is None:
            return None, 0.0, None
        bands = self._calibrations.bands(device, request, estimate)
        train, reference = bands.train_seconds, bands.reference_seconds
        return (train.value if train else None), (reference.value if reference else 0.0), estimate


def owed_later(predictor: Predictor, study: StudySpec, now: Iterable[tuple[OwedRun, float]]) -> dict[str, float]:
    """Device-seconds of what tuning will queue later, by arm; `now`: what is queued, with its prediction."""
    queued: dict[str, float] = {}
    for owed, seconds in now:
        queued[owed.arm] = queued.get(owed.arm, 0.0) + seconds
    return {title: max(0.0, predictor.of_tuned(study, study.arm(title)) - seconds) for title, seconds in queued.items()}


def revise(session: Session, estimate_id: int) -> None:
    """Predict queued runs anew whose resource estimate has become known. Their owner's limit is not asked again: they
    are accepted, and what is submitted next finds the better prediction."""
    queued = estimate_queries.queued_runs(session, estimate_id)
    if not queued:
        return
    first = queued[0]  # they have the same request, so the same prediction
    model, dataset = base_models.by_id(session, first.base_model_id), datasets.by_id(session, first.dataset_id)
    if model is not None and dataset is not None:
        seconds = Predictor(session, model, dataset, first.owner_id).of_run(first.spec).device_seconds
        for run in queued:
            run.reserved_seconds = seconds
        session.flush()


def _share(training: TrainingBudget, full: TrainingBudget) -> float:
    """How long a run trains, as a share of another one of its arm."""
    if training.max_steps is not None and full.max_steps is not None:
        return training.max_steps / full.max_steps
    if training.max_steps is None and full.max_steps is None:
        return passes(training) / passes(full)
    return 1.0
