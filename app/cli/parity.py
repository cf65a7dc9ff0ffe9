"""`vezna check-serving`: whether an OpenAI-compatible server answers as a run did, over REST."""

import os
from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, errors, say, show
from app.domain.comparison.export_gate import GateOutcome
from app.domain.comparison.parity import Parity
from app.domain.errors import Invalid, VeznaError
from app.web.format import percent
from app.web.text.exports import gate_difference
from app.web.text.parity import (
    parity_agreement,
    parity_answers_as,
    parity_left_out,
    parity_metric,
    parity_reason,
    parity_refused,
    parity_writes_on,
)

WAIT_SECONDS = 30
LIVE = ("queued", "running")
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
    key = os.environ.get(key_env, "") if key_env else ""
    if key_env and not key:
        raise Invalid(f"The environment variable {key_env} is not set. Set it to the server's API key.")
    check = client.post(f"/runs/{run}/parity-checks", {"url": server, "model": model, "items": items, "api_key": key})
    while check["status"] in LIVE:
        say(f"Parity check {check['id']} is {check['status']}, {check['progress']:.0%} done.", to=errors)
        check = client.get(f"/parity-checks/{check['id']}", wait=WAIT_SECONDS)
    if check["status"] != "succeeded":
        raise VeznaError(check["message"] or f"Parity check {check['id']} was cancelled.")
    result = Parity.model_validate(check["result"])
    show(check, as_json, lambda _: lines(check, result), wrap=False)
    if status := STATUSES.get(result.outcome):
        raise typer.Exit(status)


def lines(check: dict[str, Any], result: Parity) -> list[str]:
    """The result in sentences, with the first items that differ."""
    reason = parity_reason(result)
    text = [
        f"{check['url']}, model {check['model']}, answers {parity_answers_as(result)}.",
        f"{parity_metric(result)}: {percent(result.score)}, the run {percent(result.run_score)}, the base model "
        f"{percent(result.base_score)}. The same text: {parity_agreement(result)}.",
        f"Parity: {result.outcome.value} ({gate_difference(result)} points){f': {reason}' if reason else ''}.",
    ]
    text += [f"{said}." for said in (parity_left_out(result), parity_refused(result), parity_writes_on(result)) if said]
    for item in result.differing[:SHOWN]:
        text += [f"Item {item.item}", f"  run:    {item.run!r}", f"  server: {item.answer!r}"]
    return text
