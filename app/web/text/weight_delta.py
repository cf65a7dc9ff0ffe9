"""What is said of weight updates: sentences about arms and runs, and the measures of a matrix."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.domain.comparison.study import StudyArm
from app.domain.models.weight_delta import (
    EPSILON,
    SHOWN_RANK,
    TOP,
    UNCHANGED,
    MatrixDelta,
    WeightDeltas,
    WeightDeltaSummary,
)
from app.web.format import capitalized, count, hundred, join_names, percent, significant
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext
from app.web.text.verdict import arm_name


@dataclass(frozen=True)
class Measure:
    """One number of a matrix."""

    title: str
    of: Callable[[MatrixDelta], float]
    show: Callable[[float], str]
    """In a cell that has no room for a unit."""


def directions(value: float) -> str:
    """An effective rank: `5.2`, `37`."""
    return significant(value, 2)


MOST_SAID = 3
"""Arms that sentences speak of; the table has all."""
MEASURES: dict[str, Measure] = {
    "effective-rank": Measure(marked("effective rank"), lambda m: m.delta.effective_rank, directions),
    "rank-90": Measure(marked("rank for 90 % of the energy"), lambda m: m.delta.rank_90, lambda v: count(int(v))),
    "energy": Measure(
        marked("energy kept at rank 8, %"), lambda m: m.delta.energy_at(SHOWN_RANK), lambda v: hundred(v, 0)
    ),
    "norm-ratio": Measure(marked("‖ΔW‖ / ‖W‖, %"), lambda m: m.norm_ratio, hundred),
    "intruders": Measure(marked("intruder dimensions"), lambda m: m.intruders, lambda v: count(int(v))),
}
"""By the word that an address has for them."""


def arm_sentence(arm: StudyArm, found: WeightDeltaSummary) -> str:
    """`Full fine-tuning's own update had effective rank 37 of 384 (median over 37 matrices); rank 21 would hold 90 % of
    it.`"""
    return capitalized(_sentence(arm_name(arm), found))


def run_sentence(label: str, found: WeightDeltaSummary) -> str:
    """The same of one run."""
    return capitalized(_sentence(_("full fine-tuning") if label == "full" else label, found))


def _sentence(name: str, found: WeightDeltaSummary) -> str:
    values = {
        "arm": name,
        "rank": directions(found.effective_rank),
        "most": count(found.possible_rank),
        "matrices": matrices(found),
        "enough": count(found.rank_90),
    }
    if found.possible_rank < found.side:
        return _(
            "%(arm)s's update had effective rank %(rank)s of the %(most)s that it may have (median over "
            "%(matrices)s); rank %(enough)s would hold 90 %% of it.",
            **values,
        )
    return _(
        "%(arm)s's own update had effective rank %(rank)s of %(most)s (median over %(matrices)s); rank %(enough)s "
        "would hold 90 %% of it.",
        **values,
    )


def kept_words(shown: Sequence[tuple[str, WeightDeltaSummary | None]]) -> str:
    """`Rank 8 keeps 67 % (full) and 100 % (LoRA r=8) of the update's energy, and 14 % of that of the matrices
    themselves`, from names and summaries. The name is empty if there is only one summary."""
    known = [(name, summary) for name, summary in shown[:MOST_SAID] if summary]
    if not known:
        return _("Energy that a rank keeps")
    shares = [
        _("%(share)s (%(name)s)", share=percent(s.energy_8, 0), name=name) if name else percent(s.energy_8, 0)
        for name, s in known
    ]
    return _(
        "Rank %(rank)s keeps %(shares)s of the update's energy, and %(own)s of that of the matrices themselves",
        rank=SHOWN_RANK,
        shares=join_names(shares),
        own=percent(max(known, key=lambda pair: pair[1].matrices)[1].weight_energy_8, 0),
    )


def weight_sentence(found: WeightDeltaSummary) -> str:
    """`The matrices themselves have 278, and need rank 160.`"""
    return _(
        "The matrices that were trained have effective rank %(rank)s themselves, and take rank %(enough)s for 90 %%.",
        rank=directions(found.weight_effective_rank),
        enough=count(found.weight_rank_90),
    )


def matrices(found: WeightDeltaSummary) -> str:
    """`12 matrices`, `12 of 36 matrices`."""
    if found.matrices < found.of:
        return _("%(some)s of %(all)s matrices", some=count(found.matrices), all=count(found.of))
    return ngettext("%(num)s matrix", "%(num)s matrices", found.matrices)


def intruders(found: int, top: int) -> str:
    """`3 of 120`."""
    return _("%(some)s of %(all)s", some=count(found), all=count(top))


def why_none(found: WeightDeltas | None) -> str:
    """Why there is nothing to show of an arm or a run that has a result."""
    if found is None:
        return _(
            "Not looked at: the run is older than the analysis, its worker leaves it out, or it failed; the log says."
        )
    if found.unchanged:
        return _(UNCHANGED[found.unchanged])
    return left_out(found)


def left_out(found: WeightDeltas) -> str:
    """What was not looked at, and why; empty where everything was."""
    parts = []
    if found.late:
        parts.append(
            ngettext(
                "%(num)s matrix was left out for want of time.",
                "%(num)s matrices were left out for want of time.",
                found.late,
            )
        )
    if found.large:
        parts.append(
            ngettext(
                "%(num)s matrix was left out for want of memory.",
                "%(num)s matrices were left out for want of memory.",
                found.large,
            )
        )
    return " ".join([*parts, *found.broken])


def explained() -> str:
    """How to read the numbers."""
    return _(
        "Effective rank: how many equal directions would be as spread out. Energy: Σσ² of ΔW's singular values. "
        "Intruders: of the first %(top)s directions of the trained matrix, those that the matrix did not have before "
        "(every cosine below %(epsilon)s).",
        top=TOP,
        epsilon=f"{EPSILON:g}",
    )


def shares(found: WeightDeltaSummary) -> tuple[str, str]:
    """Energy at rank 8 and norm ratio, as a table writes them."""
    return percent(found.energy_8, 0), percent(found.norm_ratio)
