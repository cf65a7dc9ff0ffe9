"""`vezna reproduce`: train a run again, and report whether the result is the same, by REST."""

from typing import Annotated

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, console, show
from app.cli.terminal import progress
from app.domain.comparison.reproduction import Reproduction, ReproductionOutcome
from app.domain.errors import VeznaError
from app.web.format import percent, plus_minus, points


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
            f"Run {again} ({found['status']}) has no score on the same test items, so there is nothing to compare: "
            f"{client.address}/runs/{again}"
        )
    result = Reproduction.model_validate(found["result"])
    show(found, as_json, lambda _: lines(run, again, result))
    if result.outcome is ReproductionOutcome.OUTSIDE:
        raise typer.Exit(1)


def lines(run: int, again: int, result: Reproduction) -> list[str]:
    """The result in sentences."""
    judged = {
        ReproductionOutcome.IDENTICAL: "Identical: every test item has the same score.",
        ReproductionOutcome.WITHIN: "Reproduced: the score lies where that of another seed would.",
        ReproductionOutcome.OUTSIDE: "Not reproduced: the seed alone does not explain the difference.",
        ReproductionOutcome.UNKNOWN: "Unknown: the arm has one seed only, so nothing says what another would change.",
    }[result.outcome]
    interval = (
        f" {result.seeds} seeds predict {percent(result.low)} to {percent(result.high)}."
        if result.low is not None
        else ""
    )
    return [
        f"Run {run}: {percent(result.score)}. Again, run {again}: {percent(result.again)}.{interval}",
        f"{result.same_items} of {result.items} test items score the same; the difference is "
        f"{points(result.delta)} {plus_minus(result.half_width)} points (items alone). "
        + ("The weights are equal, byte for byte." if result.same_weights else "The weights differ."),
        judged,
    ]
