"""`vezna judge`: have a judge model score the answers of a study's runs, over REST."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, show
from app.cli.work import once_succeeded, server_key
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.errors import Invalid
from app.features.judging.words import error_words, verdict_words
from app.words.format import count, percent, points
from app.words.i18n import gettext as _
from app.words.i18n import stored


def judge(
    server: Annotated[str, typer.Argument(metavar="URL", help="Base URL of the judge: http://127.0.0.1:8001/v1.")],
    study: Annotated[int, typer.Argument(metavar="STUDY", help="Number of the study.")],
    model: Annotated[str, typer.Option(help="The judge's name there.")],
    rubric: Annotated[
        Path | None, typer.Option(help="File with what the scores from 1 to 5 mean. Default: Vezna's rubric.")
    ] = None,
    items: Annotated[int | None, typer.Option(min=2, help="The most test items. Default: 1000.")] = None,
    key_env: Annotated[
        str, typer.Option("--key-env", metavar="NAME", help="Environment variable with the server's API key.")
    ] = "",
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Have a judge model at an OpenAI-compatible server score the answers of a study's runs, and compare its arms by
    these scores. VEZNA_OUTBOUND_HOSTS must list its host."""
    client = Client(url)
    body: dict[str, Any] = {"url": server, "model": model, "api_key": server_key(key_env)}
    if rubric:
        try:
            body["rubric"] = rubric.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = type(error).__name__
            raise Invalid(
                _("%(path)s cannot be read as text (%(why)s). Name a text file in UTF-8.", path=rubric, why=why)
            ) from error
    job = client.post(f"/studies/{study}/judgements", body | ({"items": items} if items else {}))
    job = once_succeeded(client, "/judgements", job, _("Judgement %(id)s", id=job["id"]))
    show(job, as_json, lines, wrap=False)


def lines(job: dict[str, Any]) -> list[str]:
    """The arms in sentences, and what is not known."""
    text = [_arm(arm) for arm in job["arms"] if arm["score"] is not None]
    if job["unscored"]:
        text.append(
            _(
                "%(unscored)s of %(answers)s answers have no score. The judge wrote:",
                unscored=count(job["unscored"]),
                answers=count(job["answers"]),
            )
        )
        for one in job["examples"]:
            place = _("Item %(item)s, run %(run)s:", item=one["item"], run=one["run"])
            text.append(f"  {place} {stored(one['said'])}")
    if any(arm["delta"] is not None and arm["error"] is None for arm in job["arms"]):
        page = f"/studies/{job['study_id']}/blind"
        text.append(_("Ratings by people measure the judge's error: %(page)s", page=page))
    return text


def _arm(arm: dict[str, Any]) -> str:
    if arm["delta"] is None:
        return _("%(arm)s: score %(score)s.", arm=arm["arm"], score=percent(arm["score"]))
    error = arm["error"] or {"agreed": 0, "rated": 0, "mean": None}
    return _(
        "%(arm)s: score %(score)s, %(delta)s points (%(low)s to %(high)s), %(verdict)s; error of the judge: %(error)s.",
        arm=arm["arm"],
        score=percent(arm["score"]),
        delta=points(arm["delta"]),
        low=points(arm["low"]),
        high=points(arm["high"]),
        verdict=verdict_words(VerdictKind(arm["verdict"]), VerdictKind(arm["implied"])),
        error=error_words(error["agreed"], error["rated"], error["mean"]),
    )


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command()(judge)
