"""A comparison on a terminal, of a study or of any runs: the arms as a table, then what limits the verdicts.

Labels and sentences are those of the API.
"""

from collections.abc import Callable, Iterator
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from app.domain.tasks import METRICS

MINUS = "−"
UNKNOWN = "–"


def comparison_table(comparison: dict[str, Any]) -> Table:
    """The arms table of the page, for a terminal."""
    margin, metric = comparison["margin"] * 100, comparison["metric"]
    measure = METRICS[metric].title if metric in METRICS else metric
    items = f" on {comparison['items'] or 'no'} test items" if "items" in comparison else ""
    title = f"{comparison['name']}: {comparison['phrase']}" if "name" in comparison else comparison["headline"]
    interval = comparison["interval"].rstrip(".")
    table = Table(
        title=escape(title),
        caption=f"{escape(measure)}{items}; {interval}; margin {margin:g} {'point' if margin == 1 else 'points'}",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    forgetting = any(arm.get("forgetting") for arm in comparison["arms"])
    table.add_column("Arm")
    heads = [
        f"{measure[:1].upper()}{measure[1:]}\n%",
        "vs. ref.\npoints",
        "Peak\nMiB",
        "Train\ns",
        "Params",
        "File\nMiB",
    ]
    for head in [*heads, *(["Forgets\nnats/tok"] if forgetting else [])]:
        table.add_column(head, justify="right", no_wrap=True)
    for arm in comparison["arms"]:
        table.add_row(*_row(arm), *([_forgetting(arm)] if forgetting else []))
    if comparison.get("base_score") and all(known["kind"] != "zero-shot" for known in comparison["baselines"]):
        table.add_row("base model (before training)", _score(comparison["base_score"]), style="dim")
    for baseline in comparison.get("baselines", ()):
        score = _score(baseline["score"]) if baseline["score"] else baseline["status"].replace("_", " ")
        table.add_row(f"{baseline['title']} (baseline)", score, style="dim")
    return table


def remarks(comparison: dict[str, Any]) -> Iterator[str]:
    """Whether fine-tuning helps; what was searched; what limits the verdicts, and what would decide; McNemar's test."""
    if learning := comparison.get("learning"):
        yield from _learning(learning)
    yield from _search(comparison)
    if "caveats" in comparison:
        yield from (f"- {caveat}" for caveat in comparison["caveats"])
    else:
        yield from (f"- {confounder['sentence']}" for confounder in comparison["confounders"])
    for arm in comparison["arms"]:
        if arm["score"] and arm["score"]["note"]:
            yield f"- {arm['title']}: {arm['score']['note']}"
        if (verdict := arm["verdict"]) and verdict["would_decide"]:
            yield f"- {arm['title']}, {verdict['label']}: {verdict['would_decide']}"
    for baseline in comparison.get("baselines", ()):
        if baseline["message"]:
            yield f"- {baseline['title']}, {baseline['status'].replace('_', ' ')}: {baseline['message']}"
    above = [(arm["title"], arm["above_baseline"]) for arm in comparison["arms"] if arm.get("above_baseline")]
    if above:
        gaps = ", ".join(f"{title} {_score(gap, signed=True)}" for title, gap in above)
        yield f"- Points above the best baseline, {comparison['best_baseline']}: {gaps}"
    if test := comparison.get("mcnemar"):
        only = f"{test['only_arm']} items only the arm gets right, {test['only_reference']} only the reference"
        yield f"McNemar's exact test: {only}; p = {test['p_value']:.2g}."


def _learning(learning: dict[str, Any]) -> Iterator[str]:
    """The first question of a verdict, and why nothing was learned."""
    if learning["label"]:
        yield f"Does fine-tuning help? {learning['label']}. {learning['sentence']}".rstrip()
    for cause in learning["causes"]:
        yield f"- {cause['title']} ({cause['likelihood']}): {cause['sentence']}"
        if cause["remedy"]:
            yield f"  {cause['remedy']}: {cause['prepared']}"


def _search(comparison: dict[str, Any]) -> Iterator[str]:
    """The search for hyperparameters: its kind and budget, then each arm's space, use and choice."""
    if comparison.get("search"):
        yield comparison["search"]
        yield from (f"- {arm['title']}: {arm['tuning']['summary']}" for arm in comparison["arms"] if arm["tuning"])


def summary(comparison: dict[str, Any]) -> list[str]:
    """The answer to quote."""
    return [comparison["summary"]]


def short(number: float) -> str:
    """`134 M`, `75.7 k`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def _row(arm: dict[str, Any]) -> list[str]:
    costs = arm["costs"] or {}

    def cost(name: str, show: Callable[[float], str]) -> str:
        value = costs.get(name)
        return UNKNOWN if value is None else show(value["mean"] if isinstance(value, dict) else value)

    return [
        escape(_name(arm)),
        arm["failed"] or _score(arm["score"]),
        "reference" if arm["reference"] else _verdict(arm["verdict"]),
        cost("peak_bytes", lambda size: f"{size / 2**20:.0f}"),
        cost("train_seconds", lambda seconds: f"{seconds:.1f}"),
        cost("trainable_parameters", short),
        cost("artifact_bytes", lambda size: f"{size / 2**20:.2f}"),
    ]


def _name(arm: dict[str, Any]) -> str:
    """The arm's title with its missing results; for any runs, with their ids."""
    marks = ["imported"] if arm.get("imported") else []
    if "imported" in arm:
        marks.append(", ".join(map(str, arm["runs"][:6])) + (", …" if len(arm["runs"]) > 6 else ""))
    if (arm.get("tuning") or {}).get("failed"):
        marks.append("every trial of a round failed")
    elif arm.get("stopped"):
        marks.append("stopped")
    if "imported" not in arm:
        marks += [f"{n} {status}" for status, n in arm["statuses"].items() if status != "succeeded"]
    return f"{arm['title']} ({', '.join(marks)})" if marks else arm["title"]


def _score(score: dict[str, Any] | None, *, signed: bool = False) -> str:
    """`89.5 ± 2.1`; of a difference `+10.9 ± 2.8`."""
    if score is None:
        return UNKNOWN
    half = f"{(score['high'] - score['low']) * 50:.1f}" if score["usable"] else "?"
    mean = score["mean"] * 100
    return f"{_signed(mean, 1) if signed else f'{mean:.1f}'} ± {half}"


def _verdict(verdict: dict[str, Any] | None) -> str:
    if verdict is None or verdict["delta"] is None:
        return "no verdict"
    delta = _signed(verdict["delta"] * 100, 1)
    if not verdict["usable"]:
        return f"{delta} ± ?\n{verdict['label']}"
    if verdict["basis"] == "shares":  # its interval is uneven
        return (
            f"{delta} ({_signed(verdict['low'] * 100, 1)} to {_signed(verdict['high'] * 100, 1)})\n{verdict['label']}"
        )
    return f"{delta} ± {(verdict['high'] - verdict['low']) * 50:.1f}\n{verdict['label']}"


def _forgetting(arm: dict[str, Any]) -> str:
    return _signed(arm["forgetting"]["mean"], 3) if arm["forgetting"] else ""


def _signed(number: float, digits: int) -> str:
    return f"{number:+.{digits}f}".replace("-", MINUS)
