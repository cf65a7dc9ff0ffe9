"""Weight deltas in words: sentences about arms and runs, and the measures of a matrix."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.domain.models.weight_delta import (
    EPSILON,
    SHOWN_RANK,
    TOP,
    UNCHANGED,
    MatrixDelta,
    WeightDeltas,
    WeightDeltaSummary,
)
from app.words.format import capitalized, count, general, hundred, join_names, percent, significant
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext


@dataclass(frozen=True)
class Measure:
    title: str
    of: Callable[[MatrixDelta], float]
    show: Callable[[float], str]
    """In a cell that has no room for a unit."""


def directions(value: float) -> str:
    """An effective rank: `5.2`, `37`."""
    return significant(value, 2)


MOST_SAID = 3
"""A takeaway names so many arms; the table has all."""
MEASURES: dict[str, Measure] = {
    "effective-rank": Measure(marked("effective rank"), lambda m: m.delta.effective_rank, directions),
    "rank-90": Measure(marked("rank for 90 % of the energy"), lambda m: m.delta.rank_90, lambda v: count(int(v))),
    "energy": Measure(
        marked("energy kept at rank 8, %"), lambda m: m.delta.energy_at(SHOWN_RANK), lambda v: hundred(v, 0)
    ),
    "norm-ratio": Measure(marked("‖ΔW‖ / ‖W‖, %"), lambda m: m.norm_ratio, hundred),
    "intruders": Measure(marked("intruder dimensions"), lambda m: m.intruders, lambda v: count(int(v))),
}
"""By their name in an address."""


def run_sentence(label: str, summary: WeightDeltaSummary) -> str:
    """`Full fine-tuning's ΔW has effective rank 37 of 384 (median over 37 matrices); rank 21 holds 90 % of its
    energy.`"""
    return capitalized(_sentence(_("full fine-tuning") if label == "full" else label, summary))


def _sentence(name: str, summary: WeightDeltaSummary) -> str:
    values = {
        "arm": name,
        "rank": directions(summary.effective_rank),
        "most": count(summary.possible_rank),
        "matrices": matrices(summary),
        "enough": count(summary.rank_90),
    }
    if summary.possible_rank < summary.side:
        return _(
            "%(arm)s's ΔW has effective rank %(rank)s of at most %(most)s (median over %(matrices)s); rank %(enough)s "
            "holds 90 %% of its energy.",
            **values,
        )
    return _(
        "%(arm)s's ΔW has effective rank %(rank)s of %(most)s (median over %(matrices)s); rank %(enough)s holds 90 %% "
        "of its energy.",
        **values,
    )


def kept_words(shown: Sequence[tuple[str, WeightDeltaSummary | None]]) -> str:
    """`Rank 8 keeps 67 % (full) and 100 % (LoRA r=8) of the energy of ΔW, and 14 % of that of W`, from names and
    summaries. The name is empty if there is only one summary."""
    known = [(name, summary) for name, summary in shown[:MOST_SAID] if summary]
    if not known:
        return _("Energy that a rank keeps")
    shares = [
        _("%(share)s (%(name)s)", share=percent(s.energy_8, 0), name=name) if name else percent(s.energy_8, 0)
        for name, s in known
    ]
    return _(
        "Rank %(rank)s keeps %(shares)s of the energy of ΔW, and %(own)s of that of W",
        rank=SHOWN_RANK,
        shares=join_names(shares),
        own=percent(max(known, key=lambda pair: pair[1].matrices)[1].weight_energy_8, 0),
    )


def weight_sentence(summary: WeightDeltaSummary) -> str:
    """`Before training, these matrices have effective rank 278; rank 160 holds 90 % of their energy.`"""
    return _(
        "Before training, these matrices have effective rank %(rank)s; rank %(enough)s holds 90 %% of their energy.",
        rank=directions(summary.weight_effective_rank),
        enough=count(summary.weight_rank_90),
    )


def matrices(summary: WeightDeltaSummary) -> str:
    """`12 matrices`, `12 of 36 matrices`."""
    if summary.matrices < summary.of:
        return _("%(some)s of %(all)s matrices", some=count(summary.matrices), all=count(summary.of))
    return ngettext("%(num)s matrix", "%(num)s matrices", summary.matrices)


def intruders(number: int, top: int) -> str:
    """`3 of 120`."""
    return _("%(some)s of %(all)s", some=count(number), all=count(top))


def why_none(deltas: WeightDeltas | None) -> str:
    """Why there is nothing to show of an arm or a run that has a result."""
    if deltas is None:
        return _(
            "Not analysed: the run is older than the analysis, its worker skips it, or it failed (see the run's log)."
        )
    return _(UNCHANGED[deltas.unchanged]) if deltas.unchanged else left_out(deltas)


def left_out(deltas: WeightDeltas) -> str:
    """Which matrices were skipped, and why; empty where none was."""
    parts = []
    if deltas.late:
        parts.append(
            ngettext(
                "%(num)s matrix was skipped: out of time.", "%(num)s matrices were skipped: out of time.", deltas.late
            )
        )
    if deltas.large:
        parts.append(
            ngettext(
                "%(num)s matrix was skipped: too large for the memory.",
                "%(num)s matrices were skipped: too large for the memory.",
                deltas.large,
            )
        )
    return " ".join([*parts, *deltas.broken])


def explained() -> str:
    return _(
        "Effective rank: the exponential of the entropy of the singular values. Energy: Σσ² of ΔW's singular values. "
        "Intruders: of the first %(top)s left singular vectors after training, those that resemble none before it "
        "(every cosine below %(epsilon)s).",
        top=TOP,
        epsilon=general(EPSILON),
    )


FILTERS = (directions, matrices, run_sentence, weight_sentence, intruders, why_none, left_out)
