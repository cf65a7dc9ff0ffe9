"""How often the verdict claims a difference that is not there: simulated studies with a known truth.

    python -m benchmarks.verdict [studies per cell, 10000]

A run is right on an item with probability σ(ability − difficulty + what the seed does + what the method does to this
item): difficulties are normal on the logit scale, so most items are nearly always right and a few are a toss; the
seed shifts all of a run's items; the toss itself is the residual. The rates in docs/verdict.md come
from this script, with the number of studies named there.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from timeit import repeat

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import DIFFERENCES, difference, score_interval
from app.domain.comparison.statistics.verdict import ArmVerdict, Reason, VerdictKind, confidence_after, holm, judge
from app.domain.studies.alternative import Alternative

DIFFICULTY_SD = 8.0
"""On the logit scale; two runs of a method then disagree on 4.5 % of the items."""
LASTING_SD = 2.0
"""On the logit scale; runs of two methods then disagree on 7 %."""
SEEDS = (2, 3, 4, 5)
LOOKS, MOST_MORE = 3, 20
"""How often seeds are added to an undecided study, and how many at most at a time."""
ITEMS = (200, 646, 2000)
SEED_SDS = (0.003, 0.007, 0.013, 0.023, 0.038)
POINTS = np.linspace(-6, 6, 4001)
Drawn = NDArray[np.float32]
WEIGHTS = np.exp(-(POINTS**2) / 2) / np.exp(-(POINTS**2) / 2).sum()


@dataclass(frozen=True)
class Design:
    """A study's truth."""

    seeds: int = 3
    items: int = 646
    seed_sd: float = 0.007
    """Of the accuracy over endless items. On a test set the tosses come on top: 646 items make 0.7 points of 0.4."""
    shared: bool = False
    """Seed 0 does the same to every arm (the same data order, say)."""
    accuracies: tuple[float, ...] = (0.89, 0.89)
    """By arm; the first is the reference."""
    lasting_sd: float = 0.0
    """What a method does to an item, whatever the seed; on the logit scale."""
    last_fixed: bool = False
    """The last arm is a baseline: a seed does nothing to it."""


def accuracy(shift: NDArray[np.float64], lasting_sd: float) -> NDArray[np.float64]:
    """Accuracy over the population of items for each shift of the logit."""
    spread = np.hypot(DIFFICULTY_SD, lasting_sd) * POINTS
    return np.asarray((1 / (1 + np.exp(-(shift[..., None] + spread)))) @ WEIGHTS)


@cache
def logits(accuracy_wanted: float, seed_sd: float, lasting_sd: float) -> tuple[float, float]:
    """The mean and the sd of a run's logit that give an arm this mean accuracy and this sd over seeds."""
    means = np.linspace(-10, 20, 1501)
    table = accuracy(means, lasting_sd)
    ability, scale = float(np.interp(accuracy_wanted, table, means)), 0.0
    for _ in range(60 if seed_sd else 0):
        runs = np.interp(ability + scale * POINTS, means, table)
        mean = float(runs @ WEIGHTS)
        sd = float(np.sqrt((runs - mean) ** 2 @ WEIGHTS))
        slope = float(np.interp(ability + 0.05, means, table) - np.interp(ability - 0.05, means, table)) / 0.1
        ability += (accuracy_wanted - mean) / slope
        scale += (seed_sd - sd) / slope
    return ability, scale


def studies(
    design: Design, count: int, seed: int, batch: int = 100, alike: Callable[[Drawn], Drawn] = lambda drawn: drawn
) -> Iterator[NDArray[np.float64]]:
    """`count` studies, each [arms, S, N] of 0 and 1. `alike` makes standard normal values [..., N] of items correlate:
    their difficulty, and what a method does to them."""
    rng = np.random.default_rng([seed, design.seeds, design.items, round(design.seed_sd * 1e6), design.shared])
    arms = len(design.accuracies)
    seed_sds = [design.seed_sd] * (arms - design.last_fixed) + [0.0] * design.last_fixed
    truth = [logits(a, sd, design.lasting_sd) for a, sd in zip(design.accuracies, seed_sds, strict=True)]
    ability, scale = (np.array(x).reshape(1, arms, 1, 1) for x in zip(*truth, strict=True))
    for start in range(0, count, batch):
        n = min(batch, count - start)
        seeds = rng.standard_normal((n, 1 if design.shared else arms, design.seeds, 1))
        items = DIFFICULTY_SD * alike(rng.standard_normal((n, 1, 1, design.items), dtype=np.float32))
        if design.lasting_sd:
            own = rng.standard_normal((n, arms, 1, design.items), dtype=np.float32)
            items = items + np.float32(design.lasting_sd) * alike(own)
        logit = (ability + scale * seeds).astype(np.float32) + items
        tosses = rng.random((n, arms, design.seeds, design.items), dtype=np.float32)
        yield from (tosses * (1 + np.exp(-logit)) < 1).astype(np.float64)


def claimed(design: Design, count: int, seed: int = 0) -> float:
    """Share of studies whose 95 % interval of arm 1 − arm 0 excludes 0 (whatever the margin)."""
    return float(np.mean([difference(s[1], s[0]).excludes_zero for s in studies(design, count, seed)]))


def repeated(design: Design, sizes: NDArray[np.int64], count: int, seed: int = 0, known: bool = True) -> float:
    """As `claimed`, where each item stands in the test split as often as `sizes` says; `known`: its copies are taken
    as one cluster."""
    places = np.repeat(np.arange(design.items), sizes)
    clusters = Clusters(places) if known else None
    found = (difference(s[1][:, places], s[0][:, places], clusters=clusters) for s in studies(design, count, seed))
    return float(np.mean([one.excludes_zero for one in found]))


def grouped(design: Design, sizes: NDArray[np.int64], correlation: float, count: int, seed: int = 0) -> list[float]:
    """As `claimed`, by items and by clusters, where items form groups of these sizes. Within a group the difficulties
    of items have this correlation, and so has what a method does to them."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    clusters, rng = Clusters(groups), np.random.default_rng(seed)

    def alike(own: Drawn) -> Drawn:
        common = rng.standard_normal((*own.shape[:-1], len(sizes)), dtype=np.float32)[..., groups]
        return np.asarray(np.sqrt(1 - correlation) * own + np.sqrt(correlation) * common, dtype=np.float32)

    found = [
        [difference(s[1], s[0], clusters=how).excludes_zero for how in (None, clusters)]
        for s in studies(replace(design, items=len(groups)), count, seed, alike=alike)
    ]
    return [float(rate) for rate in np.mean(found, axis=0)]


def group_sizes() -> dict[str, NDArray[np.int64]]:
    """Sizes of groups of about 600 items, by what a table calls them."""
    random = np.random.default_rng(1)
    return {
        "of 1": np.ones(600, dtype=np.int64),
        "of 5": np.full(120, 5),
        "of 20": np.full(30, 20),
        "of 1 to 20": random.integers(1, 21, 57),
        "of 1 to 20, most small": np.clip(np.exp(random.normal(0.5, 1.2, 170)), 1, 20).astype(np.int64),
        "15 of 20, 300 of 1": np.repeat([20, 1], [15, 300]),
    }


def copies(items: int) -> dict[str, NDArray[np.int64]]:
    """How often items are repeated, by what a table calls it."""
    few = np.ones(items, dtype=np.int64)
    few[: items // 30] += 2 * items // 3 // (items // 30)
    random = np.random.default_rng(0)
    return {
        "once": np.ones(items, dtype=np.int64),
        "twice": np.full(items, 2),
        "four times": np.full(items, 4),
        "1 to 20 times": random.integers(1, 21, items),
        "1 to 20 times, most seldom": np.clip(np.exp(random.normal(0.5, 1.2, items)), 1, 20).astype(np.int64),
        "40 % are copies of few": few,
    }


def differs(verdict: ArmVerdict) -> bool:
    """It says that the arm is better or worse than the reference, if only slightly."""
    return verdict.reason in (Reason.ABOVE_ZERO, Reason.BELOW_ZERO, Reason.SLIGHTLY_BELOW_ZERO)


def judged(
    design: Design,
    count: int,
    margin: float,
    says: Callable[[ArmVerdict], bool] = differs,
    alternative: Alternative = Alternative.NON_INFERIORITY,
    seed: int = 0,
) -> float:
    """Share of studies in which at least one arm's verdict says it."""
    found = 0
    for study in studies(design, count, seed):
        verdicts = judge({str(i): scores for i, scores in enumerate(study)}, "0", margin, alternative)
        found += any(map(says, verdicts.values()))
    return found / count


def one_by_one(design: Design, count: int, margin: float, *, looks: bool, seed: int = 0) -> list[float]:
    """Shares of studies that call an arm better or worse for the first time with one arm beside the reference, with
    two, and so on, while arms are added one by one; `looks`: each addition counts as an interim look."""
    found = [0] * (len(design.accuracies) - 1)
    for study in studies(design, count, seed, batch=20):
        plain = [difference(scores, study[0]) for scores in study[1:]]
        for look in range(len(plain)):
            seen = {str(i): one for i, one in enumerate(plain[: look + 1])}
            judged = holm(seen, -margin, confidence=confidence_after(look if looks else 0))
            if any(one.excludes_zero for one in judged.values()):
                found[look] += 1
                break
    return [n / count for n in found]


def extended(design: Design, count: int, margin: float, seed: int = 0) -> tuple[float, float]:
    """Shares of studies in which an arm is called better or worse: at the first look, and at the last of up to LOOKS,
    before each of which seeds were added, as many as are said to decide and MOST_MORE at most."""
    first = last = 0
    most = replace(design, seeds=design.seeds + LOOKS * MOST_MORE)
    for study in studies(most, count, seed, batch=20):
        seeds = design.seeds
        for look in range(LOOKS + 1):
            seen = {str(i): scores[:seeds] for i, scores in enumerate(study)}
            verdicts = judge(seen, "0", margin, confidence=confidence_after(look)).values()
            claims = any(map(differs, verdicts))
            first += claims and not look
            wanted = [v.needs.seeds for v in verdicts if v.kind is VerdictKind.UNDECIDED and v.needs and v.needs.seeds]
            if not wanted:
                break
            seeds = min(seeds + MOST_MORE, max(wanted))
        last += claims
    return first / count, last / count


def cancelled(design: Design, count: int, confidence: float, margin: float = 0.01, seed: int = 0) -> float:
    """Share of studies in which an arm is called better or worse after any seed from the second on: a person who
    cancels the remaining seeds then."""
    found = 0
    for study in studies(design, count, seed, batch=20):
        for seeds in range(2, design.seeds + 1):
            seen = {str(i): scores[:seeds] for i, scores in enumerate(study)}
            verdicts = judge(seen, "0", margin, confidence=confidence).values()
            if any(map(differs, verdicts)):
                found += 1
                break
    return found / count


def gated(design: Design, count: int, baseline: float, margin: float = 0.02, seed: int = 0) -> tuple[float, ...]:
    """Shares of studies that say "fine-tuning helps", that call an arm better or worse without asking that first, and
    that call one so after a yes; by a deterministic baseline with this accuracy."""
    helps = free = after = 0
    last = len(design.accuracies)
    for study in studies(replace(design, accuracies=(*design.accuracies, baseline), last_fixed=True), count, seed):
        gap = score_interval(study[last, 0] - study[0], span=DIFFERENCES)
        verdicts = judge({str(i): scores for i, scores in enumerate(study[:last])}, "0", margin).values()
        claims = any(map(differs, verdicts))
        opens = gap.high < 0
        helps, free, after = helps + opens, free + claims, after + (claims and opens)
    return helps / count, free / count, after / count


def grid(lasting_sd: float = 0.0) -> list[Design]:
    """The cells: no true difference, seeds × items × seed sd × independent or shared seeds."""
    cells = product(SEEDS, ITEMS, SEED_SDS, (False, True))
    return [Design(s, n, sd, shared, lasting_sd=lasting_sd) for s, n, sd, shared in cells]


def realistic(seeds: int) -> Design:
    """Two methods without a difference on 646 items, whose runs vary by 0.7 points."""
    return Design(seeds, 646, 0.004, lasting_sd=LASTING_SD)


def main() -> None:
    """Print the tables as Markdown."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for lasting_sd in (0.0, LASTING_SD):
        rates = {cell: claimed(cell, count) for cell in grid(lasting_sd)}
        print(f"\nlasting sd {lasting_sd}; {count} studies a cell; mean {np.mean([*rates.values()]):.2%},", end=" ")
        print(f"largest {max(rates.values()):.2%}, smallest {min(rates.values()):.2%}\n")
        print("| seeds | items | shared |", " | ".join(f"{100 * sd:.1f}" for sd in SEED_SDS), "|")
        print("|" + "---|" * (3 + len(SEED_SDS)))
        for s, n, shared in product(SEEDS, ITEMS, (False, True)):
            row = [rates[Design(s, n, sd, shared, lasting_sd=lasting_sd)] for sd in SEED_SDS]
            print(f"| {s} | {n} | {'yes' if shared else 'no'} |", " | ".join(f"{100 * r:.1f}" for r in row), "|")
    print("\nfive arms without a difference, any called better or worse (margin 1 point)\n")
    for lasting_sd, s, n in product((0.0, LASTING_SD), SEEDS, ITEMS):
        truth = Design(s, n, accuracies=(0.89,) * 5, lasting_sd=lasting_sd)
        rate = judged(truth, count, 0.01)
        print(f"lasting sd {lasting_sd}, {s} seeds, {n} items: {rate:.1%}")
    print("\na true difference of twice the margin (margin 2 points), found\n")
    for s, n in product((3, 5, 8), (646, 2000)):
        truth = Design(s, n, accuracies=(0.89, 0.85), lasting_sd=LASTING_SD)
        print(f"{s} seeds, {n} items: {judged(truth, count, 0.02, lambda v: v.kind is VerdictKind.WORSE):.1%}")
    print("\n'enough' of an arm that loses the margin, 'enough' and 'within' of an equal one (margin 2 points)\n")
    for arms, s, n, sd in product((2, 5), (3, 5), (646, 2000), (0.004, 0.013)):
        loses, equal = (
            Design(s, n, sd, accuracies=(0.89, *(accuracy,) * (arms - 1)), lasting_sd=LASTING_SD)
            for accuracy in (0.87, 0.89)
        )
        enough = partial(judged, count=count // 5, margin=0.02, says=lambda v: v.kind.good_enough)
        within = enough(equal, alternative=Alternative.EQUIVALENCE)
        print(f"{arms} arms, {s} seeds, {n} items, sd {sd}: {enough(loses):.1%}, {enough(equal):.1%}, {within:.1%}")
    print("\nadding arms without a difference one by one, up to 10: any called better or worse at some time\n")
    for s, sd, looks in product((3, 5), (0.004, 0.007), (False, True)):
        design = Design(s, 646, sd, accuracies=(0.89,) * 10, lasting_sd=LASTING_SD)
        rates = one_by_one(design, count // 2, 0.02, looks=looks)
        counted = "counted" if looks else "not counted"
        print(f"{s} seeds, sd {sd}, additions {counted}: {sum(rates):.1%}, of which at first {rates[0]:.1%}")
    print("\n300 inputs, repeated (no true difference): copies as items, and as clusters\n")
    for seed_sd, (name, sizes) in product((0.004, 0.013), copies(300).items()):
        truth = Design(5, 300, seed_sd, lasting_sd=LASTING_SD)
        rates = repeated(truth, sizes, count, known=False), repeated(truth, sizes, count)
        print(f"sd {seed_sd}, {name}: {rates[0]:.1%}, {rates[1]:.1%}")
    print("\nabout 600 items in groups (no true difference): as items, and as clusters, by lasting sd\n")
    cells = product((3, 5), (LASTING_SD, 4 * LASTING_SD), (0.004, 0.013), group_sizes().items(), (0.2, 0.5, 0.8))
    for place, (s, lasting_sd, seed_sd, (name, sizes), alike) in enumerate(cells):
        truth = Design(s, seed_sd=seed_sd, lasting_sd=lasting_sd)
        rates = grouped(truth, sizes, alike, count // 5, seed=place)
        print(f"{s} seeds, {lasting_sd}, sd {seed_sd}, {name}, correlation {alike}: {rates[0]:.1%}, {rates[1]:.1%}")
    print("\nmean half-width of a pair, 646 items, sd over seeds of a run's accuracy 0.7 points\n")
    for s in SEEDS:
        widths = [difference(x[1], x[0]).half_width for x in studies(realistic(s), count, 1)]
        print(f"{s} seeds: {100 * np.mean(widths):.2f} points (median {100 * np.median(widths):.2f})")
    print(f"\nadding up to {MOST_MORE} seeds to what is undecided, up to {LOOKS} times (no true difference)\n")
    for s, seed_sd, margin in product((2, 3), (0.004, 0.013), (0.01, 0.02)):
        rates = extended(Design(s, 646, seed_sd, lasting_sd=LASTING_SD), count // 5, margin)
        print(f"{s} seeds, sd {seed_sd}, margin {margin}: at first {rates[0]:.1%}, in the end {rates[1]:.1%}")
    print("\nthree arms without a difference behind the question whether fine-tuning helps (margin 2 points)\n")
    for s, seed_sd, best in product((2, 3, 5), (0.003, 0.013), (0.89, 0.60)):
        truth = Design(s, 646, seed_sd, accuracies=(0.89,) * 3, lasting_sd=LASTING_SD)
        shares = ", ".join(f"{share:.1%}" for share in gated(truth, count, best))
        print(f"{s} seeds, sd {seed_sd}, baseline {best}: helps, arms alone, arms after a yes: {shares}")
    print("\nadding seeds, from 3 to 10, until the interval excludes 0 (no true difference)\n")
    peeks = range(3, 11)
    stopped = [
        any(difference(x[1, :s], x[0, :s]).excludes_zero for s in peeks) for x in studies(realistic(10), count, 2)
    ]
    print(f"claimed: {np.mean(stopped):.1%}")
    print("\ncancelling the rest of 10 planned seeds at the first win (no true difference)\n")
    for level in (0.95, 0.99):
        print(f"{level:.0%} confidence: {cancelled(Design(10, 646, 0.004), count // 10, level):.1%}")
    five = dict(zip("abcde", next(studies(Design(5, 2000, accuracies=(0.88,) * 5), 1, 3)), strict=True))
    judge(five, "a", 0.01)
    seconds = repeat(lambda: judge(five, "a", 0.01), number=1, repeat=20)
    print(f"\njudging five arms, 5 seeds, 2000 items: {1000 * np.median(seconds):.1f} ms (median of 20)")


if __name__ == "__main__":
    main()
