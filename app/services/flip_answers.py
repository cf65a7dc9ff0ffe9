"""What an arm, the reference and the base model answered on single test items: see `services.flips`."""

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
    """A model's answer to an item, over the seeds that count."""

    score: float
    """Mean of the verdict's metric."""
    seeds: int
    right: int
    """Seeds whose score is above one half."""
    label: str | None = None
    """The label that most seeds chose."""
    probability: float | None = None
    """Mean probability that those seeds gave it."""
    probability_of_true_label: float | None = None
    """Mean over all seeds."""
    text: str | None = None
    """Of a generated answer, the first seed's."""
    text_seed: int | None = None
    text_metrics: Mapping[MetricName, float] | None = None
    """Of that text."""


@dataclass(frozen=True)
class UnreadRun:
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
    """The predictions that hold the items' texts; None if no file could be read."""
    unread: tuple[UnreadRun, ...]

    @classmethod
    def read(cls, session: Session, files: Files, flips: Flips, arm: str) -> "Answers":
        """Read the files of the runs that count."""
        both = dict.fromkeys((flips.reference, arm))
        runs = [run for name in both if name in flips.arms for run in flips.arms[name].runs]
        known = artifacts.predictions_of(session, [run.run_id for run in runs])
        of_run: dict[int, Predictions] = {}
        texts, unread = None, []
        for run in runs:
            try:
                predictions = _read(files, known.get(run.run_id), flips, texts=texts is None)
            except (NotFound, Invalid) as error:
                unread.append(UnreadRun(run.run_id, run.arm, run.seed, error.message))
            else:
                of_run[run.run_id] = predictions
                texts = texts or predictions
        return cls(flips, of_run, texts, tuple(unread))

    def confidence(self) -> NDArray[np.float64] | None:
        """The reference's probability of its own answer, mean over its seeds, [R]; None where answers have none."""
        judged = self.flips.arms.get(self.flips.reference)
        read = [self.of_run[run.run_id] for run in judged.runs if run.run_id in self.of_run] if judged else []
        columns = [column for predictions in read if (column := predictions.column("sure")) is not None]
        rows = min(map(len, columns), default=0)
        return np.mean([column[:rows] for column in columns], axis=0, dtype=np.float64) if columns else None

    def of(self, arm: str, row: int) -> Answer | None:
        """An arm's answer on an item; None where it has no run that counts."""
        judged = self.flips.arms.get(arm)
        return self._answer(judged, judged.scores, row, "") if judged else None

    def of_base_model(self, arm: str, row: int) -> Answer | None:
        """The answer of the base model, with the heads of an arm's runs before training."""
        judged = self.flips.arms.get(arm)
        return self._answer(judged, judged.base, row, "base_") if judged and judged.base is not None else None

    def label_name(self, label: int | None) -> str | None:
        """The name of a label; its number where the file does not name it."""
        if label is None or self.texts is None:
            return None
        return self.texts.labels[label] if 0 <= label < len(self.texts.labels) else str(label)

    def _answer(self, judged: JudgedArm, scores: NDArray[np.float64], row: int, side: str) -> Answer:
        by_seed = scores[:, row]
        plain = Answer(score=float(by_seed.mean()), seeds=len(by_seed), right=int((by_seed > HALF).sum()))
        read = [
            (run, predictions)
            for run in judged.runs
            if (predictions := self.of_run.get(run.run_id)) is not None and row < predictions.table.num_rows
        ]
        answers = [(run, predictions, predictions.at(f"{side}answer", row)) for run, predictions in read]
        if not answers or answers[0][2] is None:
            return plain
        if isinstance(answers[0][2], str):
            return _written(plain, *answers[0], row, side)
        chosen, _times = Counter(label for _run, _predictions, label in answers).most_common(1)[0]
        return Answer(
            **vars(plain)
            | {
                "label": self.label_name(chosen),
                "probability": _mean(p.at(f"{side}sure", row) for _run, p, label in answers if label == chosen),
                "probability_of_true_label": _mean(p.at(f"{side}of_label", row) for _run, p, _label in answers),
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
    predictions = of_artifact(files, artifact, texts=texts)
    if predictions.items_hash != flips.items_hash:
        raise Invalid(_("The predictions of the run are of other items than its scores."))
    return predictions
