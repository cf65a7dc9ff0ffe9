"""`vezna reproduce`: train a run again, and report whether the result is the same, by REST."""

from typing import Annotated

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, console, show
from app.cli.terminal import progress
from app.domain.comparison.fairness.reproduction import Reproduction, ReproductionOutcome
from app.domain.errors import VeznaError
from app.words.format import capitalized, percent
from app.words.i18n import gettext as _
from app.words.runs.states import state_word
from app.words.studies.reproductions import reproduction_difference, reproduction_interval, reproduction_outcome


def reproduce(
    run: Annotated[int, typer.Argument(metavar="RUN", help="Number of the run.")],
    url: Url = LOCAL,
    insist: Annotated[
        bool, typer.Option("--insist", help="Queue it even if by its estimate no live worker has enough memory.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a run again with its spec and seed, and report whether the score lies where another seed's would. Exit
    status 1 if it does not, or if the run fails."""
    client = Client(url)
    again = client.post(f"/runs/{run}/reproductions", insist=insist)["id"]
    snapshots = client.events(f"/runs/{again}/events")
    if as_json:
        for _snapshot in snapshots:
            pass
    else:
        progress.follow_run(console, snapshots)
    found = next(one for one in client.get(f"/runs/{run}/reproductions") if one["run_id"] == again)
    if found["result"] is None:
        raise VeznaError(
            _(
                "Run %(run)s (%(state)s) has no score on the same test items, so there is nothing to compare: %(url)s",
                run=again,
                state=state_word(found["status"]),
                url=f"{client.address}/runs/{again}",
            )
        )
    result = Reproduction.model_validate(found["result"])
    show(found, as_json, lambda _found: lines(run, again, result))
    if result.outcome is ReproductionOutcome.OUTSIDE:
        raise typer.Exit(1)


def lines(run: int, again: int, result: Reproduction) -> list[str]:
    scores = _(
        "Run %(run)s: %(score)s. Again, run %(again)s: %(new_score)s.",
        run=run,
        score=percent(result.score),
        again=again,
        new_score=percent(result.again),
    )
    interval = reproduction_interval(result)
    items = _(
        "%(same)s of %(items)s test items score the same; the difference is %(difference)s points (items alone).",
        same=result.same_items,
        items=result.items,
        difference=reproduction_difference(result),
    )
    weights = _("The weights are equal, byte for byte.") if result.same_weights else _("The weights differ.")
    return [
        f"{scores} {interval}." if interval else scores,
        f"{items} {weights}",
        f"{capitalized(reproduction_outcome(result))}.",
    ]
