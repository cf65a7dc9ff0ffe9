"""A comparison on a terminal, of a study or of any runs: the arms as a table, then what limits the verdicts.

Labels and sentences are those of the API.
"""

from collections.abc import Callable, Iterator
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from app.domain.tasks import METRICS
from app.words.format import NBSP, as_read, general, hundred, points, reach
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext
from app.words.runs.metrics import counted_items

MINUS = "−"
UNKNOWN = "–"


def comparison_table(comparison: dict[str, Any]) -> Table:
    """The arms table of the page, for a terminal."""
    margin, metric = comparison["margin"] * 100, comparison["metric"]
    measure = _(METRICS[metric].title) if metric in METRICS else metric
    title = f"{comparison['name']}: {comparison['phrase']}" if "name" in comparison else comparison["headline"]
    interval = comparison["interval"].rstrip(".")
    table = Table(
        title=escape(title),
        caption=f"{_measured(comparison, escape(measure))}; {interval}; {_margin(margin)}",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    forgetting = any(arm.get("forgetting") for arm in comparison["arms"])
    table.add_column(_("Arm"))
    heads = [
        f"{measure[:1].upper()}{measure[1:]}\n%",
        _("vs. ref.\npoints"),
        _("Peak\nMiB"),
        _("Train\ns"),
        _("Params"),
        _("File\nMiB"),
    ]
    for head in [*heads, *([_("Forgets\nnats/tok")] if forgetting else [])]:
        table.add_column(head, justify="right", no_wrap=True)
    for arm in comparison["arms"]:
        table.add_row(*_row(arm), *([_forgetting(arm)] if forgetting else []))
    if comparison.get("base_score") and all(known["kind"] != "zero-shot" for known in comparison["baselines"]):
        table.add_row(_("base model (before training)"), _score(comparison["base_score"]), style="dim")
    for baseline in comparison.get("baselines", ()):
        score = _score(baseline["score"]) if baseline["score"] else _status(baseline["status"])
        table.add_row(_("%(baseline)s (baseline)", baseline=baseline["title"]), score, style="dim")
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
            yield f"- {baseline['title']}, {_status(baseline['status'])}: {baseline['message']}"
    above = [(arm["title"], arm["above_baseline"]) for arm in comparison["arms"] if arm.get("above_baseline")]
    if above:
        gaps = ", ".join(f"{title} {_score(gap, signed=True)}" for title, gap in above)
        words = _(
            "Points above the best baseline, %(baseline)s: %(gaps)s", baseline=comparison["best_baseline"], gaps=gaps
        )
        yield f"- {words}"
    if test := comparison.get("mcnemar"):
        values = {"arm": test["only_arm"], "reference": test["only_reference"], "p": general(test["p_value"], 2)}
        yield (
            _(
                "Exact sign test over groups of items: the arm gets more right of %(arm)s groups, the reference of "
                "%(reference)s; p = %(p)s.",
                **values,
            )
            if test.get("clustered")
            else _(
                "McNemar's exact test: %(arm)s items only the arm gets right, %(reference)s only the reference; "
                "p = %(p)s.",
                **values,
            )
        )


def _learning(learning: dict[str, Any]) -> Iterator[str]:
    """The first question of a verdict, and why nothing was learned."""
    if learning["label"]:
        question = _("Does fine-tuning help?")
        yield f"{question} {learning['label']}. {learning['sentence']}".rstrip()
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
    return [comparison["summary"]]


def short(number: float) -> str:
    """`134 M`, `75.7 k`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{general(number / size, 3)} {unit}"
    return general(number)


STATES = {
    "not_applicable": marked("not applicable"),
    "queued": marked("queued"),
    "running": marked("running"),
    "failed": marked("failed"),
    "cancelled": marked("cancelled"),
    "working": marked("working"),
}


def _status(status: str) -> str:
    return _(STATES[status]) if status in STATES else status.replace("_", " ")


def _measured(comparison: dict[str, Any], measure: str) -> str:
    if "items" not in comparison:
        return measure
    if not comparison["items"]:
        return _("%(measure)s on no test items", measure=measure)
    items = counted_items(comparison["items"], comparison["metric"])
    return _("%(measure)s on %(items)s", measure=measure, items=items)


def _margin(margin: float) -> str:
    return ngettext(
        "margin %(points)s point", "margin %(points)s points", 1 if margin == 1 else 2, points=general(margin)
    )


def _fixed(number: float, digits: int) -> str:
    return as_read(f"{number:.{digits}f}")


def _row(arm: dict[str, Any]) -> list[str]:
    costs = arm["costs"] or {}

    def cost(name: str, show: Callable[[float], str]) -> str:
        value = costs.get(name)
        return UNKNOWN if value is None else show(value["mean"] if isinstance(value, dict) else value)

    return [
        escape(_name(arm)),
        arm["failed"] or _score(arm["score"]),
        _("reference") if arm["reference"] else _verdict(arm["verdict"]),
        cost("peak_bytes", lambda size: _fixed(size / 2**20, 0)),
        cost("train_seconds", lambda seconds: _fixed(seconds, 1)),
        cost("trainable_parameters", short),
        cost("artifact_bytes", lambda size: _fixed(size / 2**20, 2)),
    ]


def _name(arm: dict[str, Any]) -> str:
    """The arm's title with its missing results; for any runs, with their ids."""
    marks = [_("imported")] if arm.get("imported") else []
    if "imported" in arm:
        marks.append(", ".join(map(str, arm["runs"][:6])) + (", …" if len(arm["runs"]) > 6 else ""))
    if (arm.get("tuning") or {}).get("failed"):
        marks.append(_("every trial of a round failed"))
    elif arm.get("stopped"):
        marks.append(_("stopped"))
    if "imported" not in arm:
        marks += [f"{n} {_status(status)}" for status, n in arm["statuses"].items() if status != "succeeded"]
    return f"{arm['title']} ({', '.join(marks)})" if marks else arm["title"]


def _score(score: dict[str, Any] | None, *, signed: bool = False) -> str:
    """`89.5 ± 2.1`, or `98.8 (97.2 to 100.0)` where the interval is uneven; of a difference `+10.9 ± 2.8`."""
    if score is None:
        return UNKNOWN
    mean = points(score["mean"]) if signed else hundred(score["mean"])
    if not score["usable"]:
        return f"{mean} ± ?"
    return f"{mean} {reach(score['mean'], score['low'], score['high'], signed=signed).replace(NBSP, ' ')}"


def _verdict(verdict: dict[str, Any] | None) -> str:
    if verdict is None or verdict["delta"] is None:
        return _("no verdict")
    return f"{_score(verdict | {'mean': verdict['delta']}, signed=True)}\n{verdict['label']}"


def _forgetting(arm: dict[str, Any]) -> str:
    return _signed(arm["forgetting"]["mean"], 3) if arm["forgetting"] else ""


def _signed(number: float, digits: int) -> str:
    return as_read(f"{number:+.{digits}f}".replace("-", MINUS))
