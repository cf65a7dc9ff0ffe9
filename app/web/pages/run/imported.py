"""The context of the page of an imported run: what its file says, and nothing that was not measured."""

from dataclasses import dataclass

from app.domain.comparison.statistics.intervals import ScoreInterval, score_interval
from app.domain.comparison.statistics.proportions import wilson
from app.domain.imports.result import ImportedResult, OutsideRun
from app.services.runs.annotations import Notes
from app.store.runs.evaluations import ItemScores
from app.store.tables import RunRow
from app.words.format import NOTHING, count, duration, file_size, memory, percent, rate, share
from app.words.i18n import gettext as _
from app.words.runs.metrics import title


@dataclass(frozen=True)
class ImportedRunPage:
    run: RunRow
    result: ImportedResult
    collection: str
    tested: ItemScores | None
    """Scores of single items, if there are any."""
    notes: Notes

    @property
    def title(self) -> str:
        return _(
            "%(label)s reaches %(metric)s %(score)s",
            label=self.result.label,
            metric=title(self.result.metric),
            score=percent(self.result.score),
        )

    @property
    def interval(self) -> ScoreInterval | None:
        """Over its items; None where their number is not known."""
        return interval_of(self.result, self.tested)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What its file says of its training and of what was measured."""
        return facts_of(self.result)

    @property
    def settings(self) -> list[tuple[str, str]]:
        return settings_of(self.result)


def interval_of(result: OutsideRun, tested: ItemScores | None) -> ScoreInterval | None:
    """Interval of a score over its items, or their clusters; None where it has no score, or too few of these are
    known."""
    if tested and tested.clusters:
        interval = score_interval(tested.scores[None, :], clusters=tested.clusters)
        return interval if interval.usable else None
    return wilson(result.score, result.n) if result.score is not None and result.n else None


def facts_of(r: OutsideRun) -> list[tuple[str, str]]:
    """What is stated of a training and of what was measured."""
    peak = f"{memory(r.peak_bytes)} ({r.memory_measure})" if r.memory_measure else memory(r.peak_bytes)
    part = share(r.trainable_parameters, r.total_parameters)
    trainable = f"{count(r.trainable_parameters)} ({part})" if part != NOTHING else count(r.trainable_parameters)
    facts: list[tuple[str, object, str | None]] = [
        (_("Test set"), r.test_set, r.test_set),
        (_("Base model"), r.base_model, r.base_model),
        (_("Trained on"), r.dataset, r.dataset),
        (_("Device"), r.device, r.device),
        (_("Precision"), r.precision, r.precision),
        (_("Versions"), r.versions, ", ".join(f"{name} {version}" for name, version in r.versions.items())),
        (_("Seed"), r.seed, str(r.seed)),
        (_("Learning rate"), r.learning_rate, rate(r.learning_rate)),
        (_("Steps"), r.steps, count(r.steps)),
        (_("Tokens trained on"), r.tokens, count(r.tokens)),
        (_("Train time"), r.train_seconds, duration(r.train_seconds)),
        (_("Peak memory"), r.peak_bytes, peak),
        (_("Trainable parameters"), r.trainable_parameters, trainable),
        (_("File"), r.file_bytes, file_size(r.file_bytes)),
    ]
    return [(name, text) for name, value, text in facts if value is not None and text]


def settings_of(result: OutsideRun) -> list[tuple[str, str]]:
    return [(name, _written(value)) for name, value in sorted(result.settings.items())]


def _written(value: object) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return rate(value) if isinstance(value, float) else NOTHING if value is None else str(value)
