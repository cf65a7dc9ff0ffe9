"""Recipes: the list, a page for each, and running one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from pydantic import BeforeValidator
from sqlalchemy.orm import Session

from app.domain.data.dataset import SAMPLE_DATASET
from app.domain.errors import FieldError, Invalid, OverQuota
from app.domain.messages import _
from app.domain.models.base_model import SAMPLE_MODEL
from app.domain.studies.plan import StudyPlan
from app.features.recipes import queries as recipe_rows
from app.features.recipes import service as recipes
from app.features.recipes.figure import recipe as recipe_figure
from app.features.recipes.rules.recipes import Outcome, Recipe
from app.features.recipes.service import RecipeCard, RecipeRequest
from app.features.recipes.words import OUTCOMES, differs
from app.services.models.compatibility import check
from app.services.studies.plan import plan_of
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.tables import StudyRow
from app.web.figures.drawing.render import Theme
from app.web.figures.figure import Drawn, drawn
from app.web.forms.errors import validated
from app.web.forms.once import OnceByForm
from app.web.forms.sent import SentForm, creating
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId
from app.web.http.errors import status_of
from app.web.http.files.figure_file import Ending, figure_file
from app.web.templating import Render

MOST_STUDIES = 50
"""Of a recipe that its page lists."""


@dataclass(frozen=True)
class RecipeLine:
    """A recipe in the list."""

    recipe: Recipe
    plan: StudyPlan | None
    """On the chosen model and data; None where it does not fit them."""
    reason: str
    """Why it does not fit; empty where it does."""
    card: RecipeCard | None
    """Of its newest study, on any model; None where it has not run."""


@dataclass(frozen=True)
class RecipesPage:
    """The recipes, and what they showed here."""

    lines: tuple[RecipeLine, ...]
    models: Sequence[str]
    data: Mapping[str, str]
    """Titles of datasets by name."""
    texts: Mapping[str, str]
    """Those of datasets of plain text."""
    model: str
    dataset: str
    general_text: str
    outcome: str
    errors: Sequence[FieldError] = ()
    refused: str = ""
    """The recipe that was not queued."""

    @property
    def too_large(self) -> str:
        """The refused recipe, if the only reason is that no live worker has enough memory; else empty."""
        return self.refused if self.errors and all(error.path == "insist" for error in self.errors) else ""

    @property
    def cards(self) -> list[RecipeCard]:
        """The latest results, the newest first."""
        shown = [line.card for line in self.lines if line.card]
        return sorted(shown, key=lambda card: card.study.id, reverse=True)

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        """The outcomes to choose from."""
        return [(outcome.value, label) for outcome, label in OUTCOMES.items()]

    @property
    def ready(self) -> bool:
        """There is a model and a dataset to run recipes on."""
        return bool(self.models and self.data)


@dataclass(frozen=True)
class RecipePage:
    """A recipe and a result of it."""

    recipe: Recipe
    yaml: str
    card: RecipeCard | None
    differs: str
    """How the runs differ from those of the source; empty where it has not run."""
    figure: Drawn | None
    """Its checks with their intervals; None where it has not run."""
    studies: Sequence[StudyRow]
    """Its studies, the newest first."""


def recipe_page(session: Session, recipe_id: str, study_id: int | None = None) -> RecipePage:
    """A recipe's page with the result of its newest study, or of another one. Raises NotFound."""
    recipe = recipes.get(recipe_id)
    ran = recipe_rows.studies_of(session, recipe_id, MOST_STUDIES)
    card = recipes.card(session, recipe_id, study_id) if ran or study_id is not None else None
    model = base_models.by_id(session, card.study.base_model_id) if card else None
    about = differs(card, model.facts if model else None) if card else ""
    query = f"?study={study_id}" if study_id is not None else ""
    figure = drawn(recipe_figure(card), f"/recipes/{recipe_id}/charts", query) if card else None
    return RecipePage(recipe, recipes.text(f"{recipe_id}.yaml"), card, about, figure, ran)


def recipes_page(
    session: Session,
    model: str,
    dataset: str,
    general_text: str,
    outcome: str = "",
    errors: Sequence[FieldError] = (),
    refused: str = "",
) -> RecipesPage:
    """The list for a model and data; those of the sample where they are not known, or the first ones. With the recipe
    that was refused."""
    models = [row.name for row in base_models.everyone(session) if row.facts]
    rows = datasets.everyone(session)
    data = {row.name: row.shown for row in rows if row.facts.format != "text"}
    texts = {row.name: row.shown for row in rows if row.facts.format == "text"}
    model, dataset = _chosen(model, models, SAMPLE_MODEL), _chosen(dataset, data, SAMPLE_DATASET)
    general_text = _chosen(general_text, texts)
    cards = {card.recipe.id: card for card in recipes.cards(session)}
    lines = []
    for recipe in recipes.library().values():
        card = cards.get(recipe.id)
        if outcome and (card is None or card.outcome != Outcome(outcome)):
            continue
        plan, reason = _plan(session, recipe, model, dataset, general_text) if model and dataset else (None, "")
        lines.append(RecipeLine(recipe, plan, reason, card))
    return RecipesPage(tuple(lines), models, data, texts, model, dataset, general_text, outcome, errors, refused)


def at_button(errors: Sequence[FieldError]) -> list[FieldError]:
    """Refusals of arms that fit no live worker, at the button that queues the recipe anyway. Other errors stay as they
    are."""
    if any(error.path.rpartition(".")[2] != "method" for error in errors):
        return list(errors)
    remedy = _("Queue it anyway, or start a worker with more memory")
    return [FieldError("insist", error.message, remedy) for error in errors]


def _chosen(name: str, names: Sequence[str] | Mapping[str, str], preferred: str = "") -> str:
    return next((known for known in (name, preferred, *names) if known in names), "")


def _plan(
    session: Session, recipe: Recipe, model: str, dataset: str, general_text: str
) -> tuple[StudyPlan | None, str]:
    request = RecipeRequest(base_model=model, dataset=dataset, general_text=general_text or None)
    try:
        spec = recipes.spec(session, recipe, request)
        return plan_of(session, spec, check(session, spec, queueing=False)), ""
    except Invalid as error:
        return None, error.message


router = APIRouter(prefix="/recipes", include_in_schema=False)

Text = Annotated[str, Query(max_length=200)]
Chosen = Annotated[Outcome | None, BeforeValidator(lambda text: text or None), Query()]
"""An empty value, as the form sends it, is any outcome."""
OfStudy = Annotated[RowId | None, Query()]
"""A study of the recipe; default: the newest."""


@router.get("")
def index(
    session: Reading, render: Render, model: Text = "", data: Text = "", text: Text = "", outcome: Chosen = None
) -> HTMLResponse:
    """Every recipe with its newest result, for a model and data."""
    return render.page("recipes/index.html", recipes_page(session, model, data, text, outcome or ""))


@router.get("/{recipe_id}")
def show(session: Reading, render: Render, recipe_id: str, study: OfStudy = None) -> HTMLResponse:
    """A recipe: claim, study, rule, the result of its newest study or of another one."""
    return render.page("recipes/show.html", recipe_page(session, recipe_id, study))


@router.get("/{recipe_id}/recipe.yaml")
def source(recipe_id: str) -> PlainTextResponse:
    """The recipe's file."""
    recipes.get(recipe_id)
    return PlainTextResponse(recipes.text(f"{recipe_id}.yaml"), media_type="application/yaml")


@router.get("/{recipe_id}/charts/recipe.{ending}")
def chart(session: Reading, recipe_id: str, ending: Ending, theme: Theme = "light", study: OfStudy = None) -> Response:
    """The figure of a result as a file."""
    return figure_file(recipe_figure(recipes.card(session, recipe_id, study)), ending, theme, recipe_id)


@router.post("/{recipe_id}/run")
def run(
    db: Db,
    bell: Bell,
    settings: Config,
    once: OnceByForm,
    session: Reading,
    render: Render,
    recipe_id: str,
    form: SentForm,
) -> Response:
    """Queue a recipe's study and show it; or the list with the reason why it was refused."""
    values = {name: form.get(name, "") for name in ("base_model", "dataset", "general_text")}

    def then(writing: Session, study_id: int) -> str:
        return once.keep(writing, f"/studies/{study_id}")

    try:
        request = validated(RecipeRequest, {name: value for name, value in values.items() if value})
        address = recipes.run(
            creating(db, form), bell, settings, recipe_id, request, then, insist=form.get("insist") == "true"
        )
    except (Invalid, OverQuota) as error:
        once.raise_if_answered()
        model, data, text = values.values()
        page = recipes_page(session, model, data, text, errors=at_button(error.at()), refused=recipe_id)
        return render.page("recipes/index.html", page, status=status_of(error))
    return RedirectResponse(address, status_code=303)
