"""The context of the recipes page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.domain.data.dataset import SAMPLE_DATASET
from app.domain.errors import FieldError, Invalid
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
from app.web.figures.figure import Drawn, drawn

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
