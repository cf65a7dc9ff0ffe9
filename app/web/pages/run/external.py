"""The context of the page of a run that is trained elsewhere: what its script has reported so far."""

from dataclasses import dataclass

from app.domain.comparison.statistics.intervals import ScoreInterval
from app.domain.imports.reported import ReportedRun
from app.services.runs.annotations import Notes
from app.store.runs.evaluations import ItemScores
from app.store.tables import RunEventRow, RunRow
from app.web.figures.figure import Drawn
from app.web.pages.run.imported import facts_of, interval_of, settings_of
from app.words.format import duration, percent
from app.words.i18n import gettext as _
from app.words.runs.metrics import title

HASH = 12
"""Characters of a hash that are shown."""


@dataclass(frozen=True)
class ExternalRunPage:
    """A run that a script elsewhere reports."""

    run: RunRow
    result: ReportedRun
    study: str
    silent: bool
    """It goes on, and nothing was reported for a day."""
    quiet: bool
    """The same for a shorter time, after which people are told when the last report came."""
    loss: Drawn
    events: list[RunEventRow]
    notes: Notes
    tested: ItemScores | None
    """Scores of its test items, once it has ended."""

    @property
    def title(self) -> str:
        """What it reached, or where it stands."""
        if self.result.score is None:
            return _("%(label)s, seed %(seed)s", label=self.result.label, seed=self.result.seed)
        return _(
            "%(label)s reaches %(metric)s %(score)s",
            label=self.result.label,
            metric=title(self.result.metric),
            score=percent(self.result.score),
        )

    @property
    def interval(self) -> ScoreInterval | None:
        """Over its test items; None until it has ended."""
        return interval_of(self.result, self.tested)

    @property
    def state(self) -> str:
        """The state to show: that of the run, or that there is no news of it."""
        return "no_news" if self.silent else self.run.status

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What was stated of its training and of what was measured."""
        r = self.result
        hashes = [
            (_("Hash of train"), r.splits.train),
            (_("Hash of validation"), r.splits.validation),
            (_("Hash of test"), r.splits.test),
            (_("Hash of the base model"), r.base_model_hash),
        ]
        shown = [(name, f"{text[:HASH]}…") for name, text in hashes if text]
        version = [(_("Version of the metric"), r.metric_version)] if r.metric_version else []
        return facts_of(r) + version + shown

    @property
    def settings(self) -> list[tuple[str, str]]:
        return settings_of(self.result)

    @property
    def measured(self) -> list[tuple[str, str]]:
        """Seconds by phase, and the environment."""
        clocks = [(name, duration(seconds)) for name, seconds in self.result.clocks.items()]
        return clocks + list(self.result.environment.items())
