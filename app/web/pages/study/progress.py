"""Where a study's runs stand, what they cost so far, and what more seeds would cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.comparison.verdict import confidence_after
from app.domain.methods import METHODS, Family
from app.domain.runs.status import RunStatus
from app.services.studies import StudyProgress
from app.store.tables import RunRow
from app.web.format import confidence, count, duration, energy, percent, rate
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.lead import more_seeds_help, seeds_needed, what_would_decide
from app.web.text.phases import PHASE_LABELS
from app.web.text.verdict import arm_name

MORE_SEEDS = 2
"""Seeds added by one click if the number that would decide is unknown."""
MOST_MORE_SEEDS = 20
"""Maximum number of seeds added by one click."""
FEWEST_OF_SEVERAL = 3
"""Minimum number of seeds of a study of several arms after a click: two estimate the variance too badly."""
LISTED = 12
"""With more runs than this, ended runs are collapsed."""


@dataclass(frozen=True)
class RunProgress:
    """A run of the study."""

    id: int
    arm: str
    family: Family
    hollow: int
    what: str
    """`seed 0`, or `trial at 2e-05`."""
    status: str
    step: int
    total_steps: int
    where: str
    """`step 153 of 246, validation 84.3 %`."""

    @property
    def ended(self) -> bool:
        """Well or not."""
        return RunStatus(self.status).terminal


@dataclass(frozen=True)
class StudyAdvance:
    """How far a study is, and what it has cost."""

    id: int
    status: str
    ended: int
    """Runs, as the stream of events counts them: trials too."""
    live: bool
    done: int
    total: int
    left: str
    """About how long it still takes; empty where that is not known."""
    runs: tuple[RunProgress, ...]
    cost: tuple[tuple[str, str], ...]
    """Name and value."""
    would_decide: str
    """What would decide the arm of the headline, or the one that needs the most seeds; empty where more of them decide
    nothing."""
    more_seeds: int
    too_few: str
    """Where one click adds fewer than would decide."""
    next_confidence: str
    """Of the verdict that follows: `99 %`; empty where no results could be seen yet."""
    more_runs: int
    more_time: str

    @property
    def folded(self) -> tuple[RunProgress, ...]:
        """Runs that have ended, where there are too many to list them all."""
        return tuple(run for run in self.runs if run.ended) if len(self.runs) > LISTED else ()

    @property
    def listed(self) -> tuple[RunProgress, ...]:
        """The others."""
        return tuple(run for run in self.runs if not run.ended) if self.folded else self.runs

    @classmethod
    def of(cls, progress: StudyProgress, found: StudyComparison) -> "StudyAdvance":
        """From the runs' rows and the comparison."""
        hollow = {arm.title: arm.hollow for arm in found.arms}
        helped = [arm for arm in found.others if more_seeds_help(arm)]
        told = found.focus
        asking = told if told in helped else max(helped, key=seeds_needed, default=None)
        more = _more_seeds(found, asking) if asking else MORE_SEEDS
        pace = _pace(progress.runs)
        arms = [arm.title for arm in found.arms if not arm.stopped and (_goes_on(arm) or arm.awaits_rate)]
        return cls(
            id=progress.study.id,
            status=progress.status,
            ended=progress.done,
            live=not found.complete,
            done=found.done,
            total=found.total,
            left=_left(progress.runs, pace) if not any(arm.awaits_rate for arm in found.arms) else "",
            runs=tuple(_run(run, hollow.get(run.arm, 0)) for run in progress.runs),
            cost=_cost(progress.runs, found),
            would_decide=what_would_decide(asking) if asking else "",
            more_seeds=more,
            too_few=_too_few(asking, more) if asking else "",
            next_confidence=confidence(confidence_after(found.interim_looks + 1))
            if any(a.succeeded for a in found.arms)
            else "",
            more_runs=more * len(arms),
            more_time=duration(more * sum(pace[a, None] for a in arms)) if all((a, None) in pace for a in arms) else "",
        )


def _goes_on(arm: StudyArm) -> bool:
    """It has runs that count, and not each of them failed: it would take more seeds."""
    return any(run.status is not RunStatus.FAILED for run in arm.runs)


def _more_seeds(found: StudyComparison, arm: StudyArm) -> int:
    """As many seeds as the sentence about the arm names, so that the button matches the text next to it."""
    fewest = FEWEST_OF_SEVERAL - len(found.spec.seeds) if len(found.others) > 1 else 1
    return max(min(_lacking(arm) or MORE_SEEDS, MOST_MORE_SEEDS), fewest)


def _lacking(arm: StudyArm) -> int:
    """Additional seeds that would decide; 0 if unknown."""
    seen = arm.verdict.difference if arm.verdict else None
    return max(seeds_needed(arm) - min(seen.seeds, seen.reference_seeds), 0) if seen else 0


def _too_few(arm: StudyArm, more: int) -> str:
    if _lacking(arm) <= more:
        return ""
    return _(
        "That is the most at once: it narrows the intervals, and decides about %(arm)s only if the difference changes.",
        arm=arm_name(arm),
    )


def _run(run: RunRow, hollow: int) -> RunProgress:
    return RunProgress(
        id=run.id,
        arm=run.arm,
        family=METHODS[run.method_kind].family,
        hollow=hollow,
        what=_("seed %(seed)s", seed=run.seed)
        if run.trial_round is None
        else _("trial at %(rate)s", rate=rate(run.learning_rate)),
        status=run.status,
        step=run.step if run.status != RunStatus.SUCCEEDED else run.total_steps or 1,
        total_steps=run.total_steps or 1,
        where=_where(run),
    )


def _where(run: RunRow) -> str:
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


Kind = tuple[str, int | None]
"""An arm, and the round of a trial: runs of one kind take about as long."""


def _pace(runs: Sequence[RunRow]) -> dict[Kind, float]:
    """Mean seconds of a whole run, for each arm that has one behind it, and for each round of its trials."""
    seen: dict[Kind, list[float]] = {}
    for run in runs:
        if run.status == RunStatus.SUCCEEDED and run.wall_seconds is not None:
            seen.setdefault((run.arm, run.trial_round), []).append(run.wall_seconds)
    return {kind: sum(seconds) / len(seconds) for kind, seconds in seen.items()}


def _left(runs: Sequence[RunRow], pace: Mapping[Kind, float]) -> str:
    """What queued runs take at their arm's pace, and running ones what they say, over the runs that are at work."""
    queued = [run for run in runs if run.status == RunStatus.QUEUED]
    working = [run for run in runs if run.status == RunStatus.RUNNING]
    etas = [run.eta_seconds for run in working]
    known = [eta for eta in etas if eta is not None]
    if not working or len(known) < len(etas) or any((run.arm, run.trial_round) not in pace for run in queued):
        return ""
    seconds = (sum(pace[run.arm, run.trial_round] for run in queued) + sum(known)) / len(working)
    return _("about %(time)s left", time=duration(max(seconds, 1.0)))


def _energy(counted: Sequence[float | None]) -> list[tuple[str, str]]:
    """What training drew, as far as devices count it; nothing where none does."""
    known = [joules for joules in counted if joules is not None]
    if not known:
        return []
    text = energy(sum(known))
    if len(known) < len(counted):
        text = _("%(energy)s, counted in %(some)s of %(all)s runs", energy=text, some=len(known), all=len(counted))
    return [(_("Energy of training"), text)]


def _cost(every: Sequence[RunRow], found: StudyComparison) -> tuple[tuple[str, str], ...]:
    runs = [run for run in every if run.trial_round is None]
    done = [run for run in runs if run.status == RunStatus.SUCCEEDED]
    again = sum(run.epoch > 1 for run in done)
    text = ngettext("%(done)s of %(num)s succeeded", "%(done)s of %(num)s succeeded", len(runs), done=len(done))
    if done:
        more = ngettext("%(num)s took more than one attempt", "%(num)s took more than one attempt", again)
        text = _("%(runs)s, %(attempts)s", runs=text, attempts=more if again else _("first attempt each"))
    pairs = [(_("Runs"), text)]
    results = [run.result for run in found.runs if run.result]
    if results:
        wall, train = sum(r.clocks.wall for r in results), sum(r.clocks.train for r in results)
        spent = _("%(wall)s, of which training %(train)s", wall=duration(wall), train=duration(train))
        pairs.append((_("Time, all runs"), spent))
        pairs += _energy([result.energy_joules for result in results])
    trials = [run for run in every if run.trial_round is not None]
    if trials:
        text = ngettext("%(num)s trial", "%(num)s trials", len(trials))
        spent = duration(sum(run.wall_seconds or 0.0 for run in trials))
        pairs.append((_("Learning rates"), _("%(trials)s, %(time)s", trials=text, time=spent)))
    spans = [(run.started_at, run.finished_at) for run in every if run.started_at and run.finished_at]
    if spans and found.complete:
        elapsed = (max(end for _start, end in spans) - min(start for start, _end in spans)).total_seconds()
        pairs.append((_("From first to last"), duration(elapsed)))
    speeds = [f"{count(round(a.costs.tokens_per_second))} {a.title}" for a in found.arms if a.costs]
    if speeds:
        pairs.append((_("Tokens a second"), ", ".join(speeds)))
    return tuple(pairs)
