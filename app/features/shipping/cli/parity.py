"""`vezna check-serving`: whether an OpenAI-compatible server answers as a run did, over REST."""

from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, show
from app.cli.work import once_succeeded, server_key
from app.domain.comparison.fairness.export_gate import GateOutcome
from app.features.shipping.cli.gate import gate_line
from app.features.shipping.rules.parity import Parity
from app.features.shipping.words.exports import gate_difference
from app.features.shipping.words.parity import (
    parity_agreement,
    parity_answers_as,
    parity_left_out,
    parity_metric,
    parity_reason,
    parity_refused,
    parity_writes_on,
)
from app.words.format import percent
from app.words.i18n import gettext as _

STATUSES = {GateOutcome.FAIL: 1, GateOutcome.UNDECIDED: 3}
"""Exit statuses; 2 is a wrong command line."""
SHOWN = 3
"""Differing items that are printed."""


def check_serving(
    server: Annotated[str, typer.Argument(metavar="URL", help="Base URL of the server: http://127.0.0.1:8001/v1.")],
    run: Annotated[int, typer.Argument(metavar="RUN", help="Number of the run.")],
    model: Annotated[str, typer.Option(help="The model's name there. Default: run-RUN.")] = "",
    items: Annotated[int | None, typer.Option(min=1, help="Test items to send. Default: all.")] = None,
    key_env: Annotated[
        str, typer.Option("--key-env", metavar="NAME", help="Environment variable with the server's API key.")
    ] = "",
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Send a run's test items to an OpenAI-compatible server, and compare the answers with the run's. The exit
    status is 1 if the server does not answer as the run did, and 3 if that is undecided. VEZNA_OUTBOUND_HOSTS must list
    its host."""
    client = Client(url)
    body = {"url": server, "model": model, "items": items, "api_key": server_key(key_env)}
    check = client.post(f"/runs/{run}/parity-checks", body)
    check = once_succeeded(client, "/parity-checks", check, _("Parity check %(id)s", id=check["id"]))
    result = Parity.model_validate(check["result"])
    show(check, as_json, lambda _check: lines(check, result), wrap=False)
    if status := STATUSES.get(result.outcome):
        raise typer.Exit(status)


def lines(check: dict[str, Any], result: Parity) -> list[str]:
    """The result in sentences, with the first items that differ."""
    reason = parity_reason(result)
    text = [
        _(
            "%(url)s, model %(model)s, answers %(whom)s.",
            url=check["url"],
            model=check["model"],
            whom=parity_answers_as(result),
        ),
        _(
            "%(metric)s: %(score)s, the run %(run_score)s, the base model %(base_score)s. The same text: %(same)s.",
            metric=parity_metric(result),
            score=percent(result.score),
            run_score=percent(result.run_score),
            base_score=percent(result.base_score),
            same=parity_agreement(result),
        ),
        gate_line(_("Parity"), result.outcome, gate_difference(result), reason),
    ]
    text += [f"{said}." for said in (parity_left_out(result), parity_refused(result), parity_writes_on(result)) if said]
    for item in result.differing[:SHOWN]:
        text += [
            _("Item %(item)s", item=item.item),
            "  " + _("run: %(answer)r", answer=item.run),
            "  " + _("server: %(answer)r", answer=item.answer),
        ]
    return text
