"""`vezna recipes`: list, show and run published claims, and print their result cards, over REST."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, console, queued, show
from app.cli.terminal import progress
from app.domain.data.dataset import SAMPLE_DATASET
from app.domain.models.base_model import SAMPLE_MODEL
from app.words.i18n import gettext as _
from app.words.i18n import stored

recipes = typer.Typer(help="Recipes: published claims as studies, with the rule that decides.", no_args_is_help=True)
Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's id; see vezna recipes list.")]


@recipes.command(name="list")
def listed(url: Url = LOCAL, as_json: Json = False) -> None:
    """List the recipes: claim, source, number of runs."""
    show(Client(url).get("/recipes"), as_json, _table)


@recipes.command(name="show")
def shown(recipe: Recipe, url: Url = LOCAL, as_json: Json = False) -> None:
    """Print a recipe: claim, source, study, and the rule that decides."""
    show(Client(url).get(f"/recipes/{recipe}"), as_json, _lines)


@recipes.command()
def run(
    recipe: Recipe,
    model: Annotated[str, typer.Option("--model", help="Name of a base model.")] = SAMPLE_MODEL,
    data: Annotated[str, typer.Option("--data", help="Name of a dataset.")] = SAMPLE_DATASET,
    general_text: Annotated[
        str, typer.Option("--general-text", help="For a recipe that measures forgetting: a dataset of plain texts.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Show its progress, then its card.")] = False,
    insist: Annotated[
        bool, typer.Option("--insist", help="Queue it even if no live worker has enough memory.")
    ] = False,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Queue a recipe's study on a base model and a dataset. With --wait the exit status is 1 if a run failed."""
    client = Client(url)
    body = {"base_model": model, "dataset": data} | ({"general_text": general_text} if general_text else {})
    answer = client.post(f"/recipes/{recipe}/runs", body, insist=insist)
    study = answer["study_id"]
    if not wait:
        show(answer, as_json, lambda _answer: [queued("studies", study, client.address)])
        return
    snapshots = client.events(f"/studies/{study}/events")
    ended: list[dict[str, Any]]
    if as_json:
        ended = [snapshot for snapshot in snapshots][-1].get("runs", [])
        print(json.dumps(client.get(f"/recipes/{recipe}/card", study=study), ensure_ascii=False, indent=2))
    else:
        ended = progress.follow_study(console, snapshots)["runs"]
        show(client.get(f"/recipes/{recipe}/card", study=study), False, _card)
    if any(one.get("status") != "succeeded" for one in ended):
        raise typer.Exit(1)


@recipes.command()
def card(
    recipe: Recipe,
    study: Annotated[int | None, typer.Option("--study", help="A study of the recipe; default: the newest.")] = None,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Print the result card of a recipe: paper, here, outcome."""
    query = {} if study is None else {"study": study}
    show(Client(url).get(f"/recipes/{recipe}/card", **query), as_json, _card)


def _table(answer: list[dict[str, Any]]) -> Table:
    table = Table(_("Recipe"), _("Claim"), _("Source"), _("Runs"), box=None)
    for recipe in answer:
        runs = len(recipe["study"]["arms"]) * len(recipe["study"]["seeds"])
        table.add_row(recipe["id"], stored(recipe["claim"]), recipe["source"]["citation"], str(runs))
    return table


def _lines(recipe: dict[str, Any]) -> Iterator[str]:
    yield stored(recipe["title"])
    for name, text in (
        (_("Claim"), stored(recipe["claim"])),
        (_("Paper"), f"{stored(recipe['paper'])} ({recipe['source']['citation']}, {recipe['source']['url']})"),
        (_("Setting"), stored(recipe["source"]["setting"])),
        (_("Checked"), stored(recipe["source"]["checked"])),
        (_("Confirmed by"), stored(recipe["confirmed_by"])),
        (_("Rule"), stored(recipe["rule"])),
        (_("Arms"), ", ".join(arm["name"] for arm in recipe["study"]["arms"])),
        (_("Seeds"), ", ".join(map(str, recipe["study"]["seeds"]))),
    ):
        yield f"{name}: {text}"


def _card(card: dict[str, Any]) -> Iterator[str]:
    yield f"{stored(card['title'])}: {card['label']}"
    yield _("Paper: %(paper)s (%(source)s)", paper=stored(card["paper"]), source=card["source"])
    yield _("Here: %(here)s", here=card["here"])
    yield _("On: %(ran_on)s; %(used)s", ran_on=card["ran_on"], used=card["used"])
    yield _("Rule: %(rule)s", rule=stored(card["rule"]))
    for finding in card["findings"]:
        yield f"  {stored(finding['check'])}: {finding['text']} ({finding['state']})"
    for line in card["published"]:
        yield _("Published: %(line)s", line=line)
    if card["failure"]:
        yield _("Failed: %(failure)s", failure=stored(card["failure"]))


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(recipes, name="recipes")
