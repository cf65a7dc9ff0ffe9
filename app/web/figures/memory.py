"""The memory of a study's arms by owner: measured, with what was predicted below it.

Runs that were made before there were ledgers have three owners computed, and what these leave of the measured peak.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.comparison.costs import Costs
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.resources.calibration import relative_error
from app.web.figures.costs import OWNERS, WIDTHS, owner_bar, owner_key, owners
from app.web.figures.drawing import stacks
from app.web.figures.drawing.stacks import Bar, Stacks
from app.web.figures.estimates import estimated_cells, estimated_columns
from app.web.figures.figure import Cell, Column, Figure, Key, Table
from app.web.figures.owners import LEDGER, Foreseen, Sizes, ledger_bar, ledger_key, ledger_sizes
from app.web.format import capitalized, mib, signed_percent
from app.web.format import memory as in_memory
from app.web.i18n import gettext as _
from app.web.text.verdict import arm_name

Done = list[tuple[StudyArm, Costs]]


def measured(costs: Costs) -> Sizes | None:
    """Bytes of each of LEDGER at the measured peak; None where a run has no ledger."""
    return ledger_sizes(costs.owner_bytes, costs.train_peak_bytes, costs.peak_bytes.mean) if costs.owner_bytes else None


def has_ledgers(found: StudyComparison) -> bool:
    """Every arm that has a result has one."""
    return all(arm.costs.owner_bytes for arm in found.arms if arm.costs)


def key(found: StudyComparison) -> tuple[Key, ...]:
    """The legend of the study's bars."""
    return ledger_key() if has_ledgers(found) else owner_key()


def split(found: StudyComparison, costs: Costs) -> list[tuple[str, float]]:
    """An arm's bar: classes and bytes."""
    sizes = measured(costs) if has_ledgers(found) else None
    if sizes is None:
        return [(css, size) for (css, _name, _colour), size in zip(OWNERS, owners(costs), strict=True)]
    return [(css, size) for (css, _name), size in zip(LEDGER, sizes, strict=True)]


def memory(found: StudyComparison, foreseen: Mapping[str, Foreseen]) -> Figure:
    """The peak of each arm, and who owns it."""
    done = [(arm, arm.costs) for arm in found.arms if arm.costs]
    known = foreseen if has_ledgers(found) else {}
    bars = _ledger_bars(done, known) if has_ledgers(found) else _old_bars(done)
    return Figure(
        name="memory",
        title=_title(found),
        label=_("Peak memory by owner, a bar an arm"),
        note=_note(found, done, known),
        data=Stacks(bars, _("MiB above the idle process, at the peak →")),
        draw=stacks.chart,
        widths=WIDTHS,
        table=_ledger_table(done, known) if has_ledgers(found) else _old_table(done),
        empty="" if bars else _("No run has a result yet."),
    )


@dataclass(frozen=True)
class OwnerRow:
    """An owner's bytes over the arms, as they are written."""

    name: str
    cells: tuple[str, ...]
    total: bool = False


def owner_rows(found: StudyComparison, foreseen: Mapping[str, Foreseen]) -> tuple[OwnerRow, ...]:
    """What each owner holds in each arm, the measured peak, and the predicted one with its error where there is one."""
    done = [(arm, arm.costs) for arm in found.arms if arm.costs]
    known = has_ledgers(found)
    names = [_(name) for _css, name in LEDGER] if known else [_(name) for _css, name, _colour in OWNERS]
    sizes = [[size for _css, size in split(found, costs)] for _arm, costs in done]
    rows = [OwnerRow(name, tuple(mib(arm[place], 1) for arm in sizes)) for place, name in enumerate(names)]
    rows.append(OwnerRow(_("measured peak"), tuple(mib(c.peak_bytes.mean, 1) for _arm, c in done), total=True))
    guesses = [foreseen.get(arm.title) for arm, _costs in done] if known else []
    if any(guesses):
        rows.append(OwnerRow(_("predicted peak"), tuple(mib(g.peak.value if g else None, 1) for g in guesses)))
        errors = [
            relative_error(guess.peak.value, costs.peak_bytes.mean) if guess else None
            for guess, (_arm, costs) in zip(guesses, done, strict=True)
        ]
        rows.append(OwnerRow(_("error"), tuple(map(signed_percent, errors))))
    return tuple(rows)


def _old_bars(done: Done) -> tuple[Bar, ...]:
    return tuple(owner_bar(arm.title, owners(costs), costs.peak_bytes.mean) for arm, costs in done)


def _ledger_bars(done: Done, foreseen: Mapping[str, Foreseen]) -> tuple[Bar, ...]:
    bars: list[Bar] = []
    for arm, costs in done:
        bars.append(ledger_bar(arm.title, measured(costs) or (), costs.peak_bytes.mean))
        if guess := foreseen.get(arm.title):
            bars.append(guess.bar)
    return tuple(bars)


def _title(found: StudyComparison) -> str:
    arm, its = found.focus, found.reference.costs
    own = arm.costs if arm else None
    if arm is None or own is None or its is None or not found.memory_comparable:
        return _("Peak memory by owner")
    kept = (its.gradients_bytes + its.optimizer_bytes) - (own.gradients_bytes + own.optimizer_bytes)
    saved = its.peak_bytes.mean - own.peak_bytes.mean
    if saved <= 0:
        text = _(
            "%(arm)s peaks at %(own)s, no less than %(reference)s",
            arm=arm_name(arm),
            own=in_memory(own.peak_bytes.mean),
            reference=arm_name(found.reference),
        )
    elif kept >= saved / 2:
        text = _(
            "%(arm)s needs %(kept)s less for gradients and optimizer state; %(reference)s peaks at %(peak)s",
            arm=arm_name(arm),
            kept=in_memory(kept),
            reference=arm_name(found.reference),
            peak=in_memory(its.peak_bytes.mean),
        )
    else:
        text = _(
            "%(arm)s peaks %(saved)s lower than %(reference)s",
            arm=arm_name(arm),
            saved=in_memory(saved),
            reference=arm_name(found.reference),
        )
    return capitalized(text)


def _note(found: StudyComparison, done: Done, foreseen: Mapping[str, Foreseen]) -> str:
    if not done:
        return ""
    if has_ledgers(found):
        parts = [
            _(
                "The length of a bar is the peak that was measured, mean over seeds; its parts are those of a train "
                "step's peak, what the device holds beside the tensors, and what another phase held more than training."
            )
        ]
        parts += [_("Pale: predicted, before anything was loaded, with its band.")] if foreseen else []
    else:
        parts = [
            _(
                "The length of a bar is the peak that was measured, mean over seeds. Weights, gradients and optimizer "
                "state are computed; activations and the rest are what they leave of it."
            )
        ]
    if not found.memory_comparable:
        parts.append(_("Devices or precision differed, so the arms do not compare."))
    return " ".join(parts)


def _ledger_table(done: Done, foreseen: Mapping[str, Foreseen]) -> Table:
    columns = [Column("arm", _("arm"))]
    columns += [Column(f"{css}_bytes", _(word), lambda v: mib(v, 1)) for css, word in LEDGER]
    columns.append(Column("peak_bytes", _("measured peak"), lambda v: mib(v, 1)))
    columns += estimated_columns(_("predicted peak"), "bytes", lambda v: mib(v, 1))
    rows: list[tuple[Cell, ...]] = []
    for arm, costs in done:
        guess, peak = foreseen.get(arm.title), costs.peak_bytes.mean
        rows.append((arm.title, *(measured(costs) or ()), peak, *estimated_cells(guess.peak if guess else None, peak)))
    return Table(tuple(columns), tuple(rows))


def _old_table(done: Done) -> Table:
    columns = [Column("arm", _("arm"))]
    names = ("weights_bytes", "gradients_bytes", "optimizer_bytes", "rest_bytes")
    for name, (_css, word, _colour) in zip(names, OWNERS, strict=True):
        columns.append(Column(name, _(word), lambda v: mib(v, 1)))
    columns.append(Column("peak_bytes", _("measured peak"), lambda v: mib(v, 1)))
    return Table(tuple(columns), tuple((arm.title, *owners(costs), costs.peak_bytes.mean) for arm, costs in done))
