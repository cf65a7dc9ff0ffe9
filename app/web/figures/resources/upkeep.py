"""What each arm of a study costs per task, compared with an arm that keeps whole models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor, log10

from app.domain.comparison.costs.break_even import Line, Prices, Upkeep, cheaper_from, cost, stored
from app.domain.comparison.study import StudyArm, StudyComparison
from app.web.figures.drawing.axes import AXES
from app.web.figures.studies.view import PriceParams
from app.words.format import NBSP, decimal, file_size


@dataclass(frozen=True)
class Kept:
    """An arm and what a task costs with it."""

    arm: StudyArm
    upkeep: Upkeep
    whole_model: bool
    """Each task keeps a whole model."""
    joules: float | None
    """Per task, where the device measures them."""


@dataclass(frozen=True)
class Keeping:
    """The arms of a study that saved a file, compared with the one that keeps whole models."""

    study: StudyComparison
    form: PriceParams
    arms: tuple[Kept, ...]

    @classmethod
    def of(cls, study: StudyComparison, form: PriceParams) -> Keeping:
        """The base model is counted as large as a whole model of the study: they are files of the same kind."""
        done = [arm for arm in study.arms if arm.costs and arm.costs.artifact_bytes]
        base = next((arm.costs.artifact_bytes for arm in done if arm.costs and _keeps_whole_model(arm)), 0)
        return cls(study, form, tuple(_kept(arm, base) for arm in done))

    @property
    def models(self) -> Kept | None:
        """What adapters are compared with: the reference if it keeps whole models, else the first arm that does."""
        models = [kept for kept in self.arms if kept.whole_model]
        return next((kept for kept in models if kept.arm.is_reference), models[0] if models else None)

    @property
    def adapters(self) -> list[Kept]:
        """The arms that keep less than a whole model."""
        return [kept for kept in self.arms if not kept.whole_model]

    @property
    def prices(self) -> Prices:
        """Those that were given; none of hours and energy where times are not comparable, nor of energy where some arm
        has no measurement."""
        prices = self.form.prices
        if not self.study.times_comparable:
            return replace(prices, hour=0.0, kwh=0.0)
        return prices if all(kept.joules is not None for kept in self.arms) else replace(prices, kwh=0.0)

    @property
    def priced(self) -> bool:
        """The figure shows money: something has a price."""
        return self.prices.hour > 0 or self.prices.kwh > 0 or self.prices.gib_month > 0

    def line(self, kept: Kept) -> Line:
        """Money or bytes of N tasks."""
        return cost(kept.upkeep, self.prices) if self.priced else stored(kept.upkeep)

    def cheaper_from(self, kept: Kept) -> int | None:
        """From how many tasks on an arm is cheaper than whole models."""
        return cheaper_from(self.line(kept), self.line(self.models)) if self.models and not kept.whole_model else None

    def say(self, value: float) -> str:
        """A sum of money with its currency, or bytes."""
        return money(value, self.form.money) if self.priced else file_size(value)

    @property
    def focus(self) -> Kept | None:
        """The adapters that a sentence is about: those of the headline, else the cheapest."""
        arm = self.study.focus
        named = next((kept for kept in self.adapters if kept.arm is arm), None)
        return named or min(self.adapters, key=lambda kept: self.line(kept).at(self.form.many), default=None)


def money(value: float, currency: str) -> str:
    """`3.20 EUR`, `0.0012 EUR`: to the cent, or to the second digit where it is less."""
    number = decimal(value, 2 if value >= 0.1 or not value else 1 - floor(log10(value)))
    return f"{number}{NBSP}{currency}" if currency else number


def _keeps_whole_model(arm: StudyArm) -> bool:
    results = [run.result for run in arm.succeeded if run.result]
    return any(file.kind == "model" for result in results for file in result.artifacts)


def _kept(arm: StudyArm, base: float) -> Kept:
    assert arm.costs is not None  # noqa: S101  (the caller checks)
    joules, whole_model = AXES["energy"].spread(arm), _keeps_whole_model(arm)
    upkeep = Upkeep(
        seconds=arm.costs.method_wall_seconds,
        task_bytes=arm.costs.artifact_bytes,
        base_bytes=0.0 if whole_model else base,
        joules=joules.mean if joules else 0.0,
    )
    return Kept(arm, upkeep, whole_model, joules.mean if joules else None)
