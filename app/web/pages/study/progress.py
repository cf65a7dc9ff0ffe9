"""Where a study's runs stand, what they cost so far, and what more seeds would decide and cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from app.domain.comparison.statistics.verdict import confidence_after
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.runs.status import RunStatus
from app.services.studies import interim_looks
from app.services.studies.studies import StudyProgress
from app.store.tables import RunRow
from app.words.format import count, duration, energy, percent
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs.phases import PHASE_LABELS
from app.words.verdict.needs import more_seeds_help, seeds_needed

MORE_SEEDS = 2
"""Seeds added by one click if the number that would decide is unknown."""
MOST_MORE_SEEDS = 20
"""Maximum number of seeds added by one click."""
FEWEST_OF_SEVERAL = 3
"""Minimum number of seeds of a study of several arms after a click: two estimate their variance too poorly."""
LISTED = 12
"""With more runs than this, ended runs are collapsed."""

Seconds = Mapping[tuple[str, int | None], float]
"""Mean wall time of a run by arm and round of tuning; the round is None for runs that count."""


@dataclass(frozen=True)
class RunsProgress:
    """How far a study is, and what it has cost."""

    study: StudyComparison
    progress: StudyProgress

    @property
    def hollow(self) -> dict[str, int]:
        """How each arm's marker is filled."""
        return {arm.title: arm.hollow for arm in self.study.arms}

    @property
    def paused(self) -> bool:
        """The study is paused, or all of its runs that wait."""
        waiting = [run.paused for run in self.progress.runs if run.status == RunStatus.QUEUED]
        return self.progress.study.paused or (bool(waiting) and all(waiting))

    @property
    def waits(self) -> bool:
        return any(run.status == RunStatus.QUEUED for run in self.progress.runs)

    @property
    def confidence_once_cancelled(self) -> float | None:
        """That verdicts need if runs are cancelled now; None where that changes nothing."""
        raised = interim_looks.cancelling_is_one(self.progress.runs)
        return confidence_after(self.study.interim_looks + 1) if raised else None

    @property
    def folded(self) -> list[RunRow]:
        """Runs that have ended, where there are too many to list them all."""
        runs = self.progress.runs
        return [run for run in runs if RunStatus(run.status).terminal] if len(runs) > LISTED else []

    @property
    def listed(self) -> list[RunRow]:
        """The others."""
        runs = self.progress.runs
        return [run for run in runs if not RunStatus(run.status).terminal] if self.folded else runs

    @cached_property
    def seconds_per_run(self) -> Seconds:
        """Seconds of the arms and rounds that have a finished run."""
        seconds: dict[tuple[str, int | None], list[float]] = {}
        for run in self.progress.runs:
            if run.status == RunStatus.SUCCEEDED and run.wall_seconds is not None:
                seconds.setdefault((run.arm, run.trial_round), []).append(run.wall_seconds)
        return {kind: fmean(known) for kind, known in seconds.items()}

    @property
    def seconds_left(self) -> float | None:
        """Queued runs at their arm's pace and running ones at their own, shared by the runs at work; None where a pace
        is unknown."""
        runs, pace = self.progress.runs, self.seconds_per_run
        queued = [(run.arm, run.trial_round) for run in runs if run.status == RunStatus.QUEUED]
        etas = [run.eta_seconds for run in runs if run.status == RunStatus.RUNNING]
        known = [eta for eta in etas if eta is not None]
        if not etas or len(known) < len(etas) or any(kind not in pace for kind in queued):
            return None
        if any(arm.awaits_rate for arm in self.study.arms):
            return None
        return max((sum(pace[kind] for kind in queued) + sum(known)) / len(etas), 1.0)

    def place(self, run: RunRow) -> str:
        """What a run is doing, or its score: `step 153 of 246, validation 84.3 %`."""
        match RunStatus(run.status):
            case RunStatus.RUNNING if run.step and run.total_steps:
                step = _("step %(step)s of %(total)s", step=count(run.step), total=count(run.total_steps))
                if run.validation_score is None:
                    return step
                return _("%(step)s, validation %(score)s", step=step, score=percent(run.validation_score))
            case RunStatus.RUNNING if run.phase == "download" and run.download:
                done, total = run.download
                return _("download %(share)s", share=percent(done / max(total, 1)))
            case RunStatus.RUNNING:
                return _(PHASE_LABELS[run.phase or "start"])
            case RunStatus.SUCCEEDED if run.trial_round is not None:
                return _("validation %(score)s", score=percent(run.validation_score)) if run.validation_score else ""
            case RunStatus.SUCCEEDED:
                return percent(run.score)
            case _:
                return ""

    @property
    def costs(self) -> list[tuple[str, str]]:
        """Name and value of what the study has cost."""
        every, study = self.progress.runs, self.study
        trials = [run for run in every if run.trial_round is not None]
        results = [run.result for run in study.runs if run.result]
        pairs = [(_("Runs"), _attempts([run for run in every if run.trial_round is None]))]
        if results:
            wall, train = sum(r.clocks.wall for r in results), sum(r.clocks.train for r in results)
            spent = _("%(wall)s, of which training %(train)s", wall=duration(wall), train=duration(train))
            pairs.append((_("Time, all runs"), spent))
            pairs += _energy([result.energy_joules for result in results])
        if trials:
            number = ngettext("%(num)s trial", "%(num)s trials", len(trials))
            spent = duration(sum(run.device_seconds for run in trials))
            pairs.append((_("Trials"), _("%(trials)s, %(time)s", trials=number, time=spent)))
        spans = [(run.started_at, run.finished_at) for run in every if run.started_at and run.finished_at]
        if spans and study.complete:
            elapsed = max(end for _start, end in spans) - min(start for start, _end in spans)
            pairs.append((_("From first to last"), duration(elapsed.total_seconds())))
        if speeds := [f"{count(round(a.costs.tokens_per_second))} {a.title}" for a in study.arms if a.costs]:
            pairs.append((_("Tokens per second"), ", ".join(speeds)))
        return pairs


def _attempts(runs: Sequence[RunRow]) -> str:
    done = [run for run in runs if run.status == RunStatus.SUCCEEDED]
    again = sum(run.epoch > 1 for run in done)
    text = ngettext("%(done)s of %(num)s succeeded", "%(done)s of %(num)s succeeded", len(runs), done=len(done))
    if not done:
        return text
    more = ngettext("%(num)s took more than one attempt", "%(num)s took more than one attempt", again)
    return _("%(runs)s, %(attempts)s", runs=text, attempts=more if again else _("first attempt each"))


def _energy(joules: Iterable[float | None]) -> list[tuple[str, str]]:
    """What training drew, as far as devices count it; nothing where none does."""
    counted = [*joules]
    known = [one for one in counted if one is not None]
    if not known:
        return []
    text = energy(sum(known))
    if len(known) < len(counted):
        text = _("%(energy)s, counted in %(some)s of %(all)s runs", energy=text, some=len(known), all=len(counted))
    return [(_("Energy of training"), text)]


@dataclass(frozen=True)
class MoreSeeds:
    """What adding seeds would decide and cost."""

    arm: StudyArm
    """The arm of the headline, or the one that needs the most seeds."""
    seeds: int
    """As many as the sentence about the arm names, so that the button matches the text beside it."""
    enough: bool
    """They would decide about the arm."""
    runs: int
    seconds: float | None
    """None where an arm's pace is unknown."""
    confidence: float
    """Confidence of the verdicts that follow."""

    @classmethod
    def of(cls, study: StudyComparison, seconds_per_run: Seconds) -> "MoreSeeds | None":
        """None where more seeds decide nothing."""
        undecided = [arm for arm in study.others if more_seeds_help(arm)]
        if not undecided:
            return None
        arm = study.focus if study.focus in undecided else max(undecided, key=seeds_needed)
        lacking = _lacking(arm)
        fewest = FEWEST_OF_SEVERAL - len(study.spec.seeds) if len(study.others) > 1 else 1
        seeds = max(min(lacking or MORE_SEEDS, MOST_MORE_SEEDS), fewest)
        growing = [arm.title for arm in study.arms if not arm.stopped and (_goes_on(arm) or arm.awaits_rate)]
        known = [seconds_per_run[title, None] for title in growing if (title, None) in seconds_per_run]
        return cls(
            arm=arm,
            seeds=seeds,
            enough=lacking <= seeds,
            runs=seeds * len(growing),
            seconds=seeds * sum(known) if len(known) == len(growing) else None,
            confidence=confidence_after(study.interim_looks + 1),
        )


def _goes_on(arm: StudyArm) -> bool:
    """It has runs that count, and not each of them failed: it would take more seeds."""
    return any(run.status is not RunStatus.FAILED for run in arm.runs)


def _lacking(arm: StudyArm) -> int:
    """Additional seeds that would decide; 0 if unknown."""
    difference = arm.difference
    return max(seeds_needed(arm) - min(difference.seeds, difference.reference_seeds), 0) if difference else 0
