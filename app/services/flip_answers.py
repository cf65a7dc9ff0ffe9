"""What an arm, the reference and the untouched model answered on single items: see `services.flips`."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.domain.comparison.flips import HALF, Flips, JudgedArm
from app.domain.comparison.model import RunOutcome
from app.domain.errors import Invalid, NotFound
from app.domain.messages import _
from app.domain.tasks import METRICS, MetricName
from app.services.predictions import Predictions, of_artifact
from app.store.files import Files
from app.store.queries import artifacts
from app.store.tables import ArtifactRow


@dataclass(frozen=True)
class Answer:
    """What a model made of an item, over the seeds that count."""

    score: float
    """Mean of the verdict's metric."""
    seeds: int
    right: int
    """Seeds whose score is above one half."""
    label: int | None = None
    """The one that most seeds chose."""
    sure: float | None = None
    """Mean probability that those seeds gave it."""
    of_label: float | None = None
    """Mean probability that all seeds gave to the true label."""
    text: str | None = None
    """Of generated answers the first seed's."""
    text_seed: int | None = None
    text_metrics: Mapping[MetricName, float] | None = None
    """Of that text."""


@dataclass(frozen=True)
class Trouble:
    """A run whose answers could not be read."""

    run_id: int
    arm: str
    seed: int
    why: str


@dataclass(frozen=True)
class Answers:
    """The predictions of an arm's runs and the reference's, as far as they could be read."""

    flips: Flips
    of_run: Mapping[int, Predictions]
    texts: Predictions | None
    """One that has the items' texts; None if no file could be read."""
    troubles: tuple[Trouble, ...]

    @classmethod
    def read(cls, session: Session, files: Files, flips: Flips, arm: str) -> "Answers":
        """Those of the runs that count."""
        both = dict.fromkeys((flips.reference, arm))
        runs = [run for name in both if name in flips.arms for run in flips.arms[name].runs]
        known = artifacts.predictions_of(session, [run.run_id for run in runs])
        of_run: dict[int, Predictions] = {}
        texts, troubles = None, []
        for run in runs:
            try:
                found = _read(files, known.get(run.run_id), flips, texts=texts is None)
            except (NotFound, Invalid) as error:
                troubles.append(Trouble(run.run_id, run.arm, run.seed, error.message))
            else:
                of_run[run.run_id] = found
                texts = texts or found
        return cls(flips, of_run, texts, tuple(troubles))

    def confidence(self) -> NDArray[np.float64] | None:
        """The reference's probability of its own answer, mean over its seeds, [R]; None where answers have none."""
        judged = self.flips.arms.get(self.flips.reference)
        read = [self.of_run[run.run_id] for run in judged.runs if run.run_id in self.of_run] if judged else []
        seen = [column for predictions in read if (column := predictions.column("sure")) is not None]
        rows = min(map(len, seen), default=0)
        return np.mean([column[:rows] for column in seen], axis=0, dtype=np.float64) if seen else None

    def of(self, arm: str, row: int) -> Answer | None:
        """An arm's answer on an item; None where it has no run that counts."""
        judged = self.flips.arms.get(arm)
        return self._answer(judged, judged.scores, row, "") if judged else None

    def untouched(self, arm: str, row: int) -> Answer | None:
        """What the model of an arm's runs answered before they trained."""
        judged = self.flips.arms.get(arm)
        return self._answer(judged, judged.base, row, "base_") if judged and judged.base is not None else None

    def _answer(self, judged: JudgedArm, scores: NDArray[np.float64], row: int, side: str) -> Answer:
        seen = scores[:, row]
        plain = Answer(score=float(seen.mean()), seeds=len(seen), right=int((seen > HALF).sum()))
        read = [
            (run, predictions)
            for run in judged.runs
            if (predictions := self.of_run.get(run.run_id)) is not None and row < predictions.table.num_rows
        ]
        given = [(run, predictions, predictions.at(f"{side}answer", row)) for run, predictions in read]
        if not given or given[0][2] is None:
            return plain
        if isinstance(given[0][2], str):
            return _written(plain, *given[0], row, side)
        chosen, _times = Counter(label for _run, _predictions, label in given).most_common(1)[0]
        return Answer(
            **vars(plain)
            | {
                "label": chosen,
                "sure": _mean(p.at(f"{side}sure", row) for _run, p, label in given if label == chosen),
                "of_label": _mean(p.at(f"{side}of_label", row) for _run, p, _label in given),
            }
        )


def _written(plain: Answer, run: RunOutcome, predictions: Predictions, text: str, row: int, side: str) -> Answer:
    metrics = {name: predictions.at(f"{side}{name}", row) for name in METRICS}
    known = {name: float(value) for name, value in metrics.items() if value is not None}
    return Answer(**vars(plain) | {"text": text, "text_seed": run.seed, "text_metrics": known})


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _read(files: Files, artifact: ArtifactRow | None, flips: Flips, *, texts: bool) -> Predictions:
    if artifact is None:
        raise NotFound(_("The run left no predictions."))
    found = of_artifact(files, artifact, texts=texts)
    if found.items_hash != flips.items_hash:
        raise Invalid(_("The predictions of the run are of other items than its scores."))
    return found
