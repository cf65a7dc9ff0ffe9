"""Recipes over REST: list, get, run one as a study, and its card."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.studies.spec import StudyStatus
from app.features.recipes import service as recipes
from app.features.recipes.rules.recipes import Outcome, Recipe
from app.features.recipes.service import RecipeCard, RecipeRequest
from app.features.recipes.words import check_state, differs, observed, outcome_label, published_text, ran_on, used
from app.store.database.page import LARGEST_ID
from app.store.models import queries as base_models
from app.web.api.runs.runs import Insist
from app.web.http.dependencies import Bell, Config, NewDb, Reading
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(prefix="/recipes", tags=["recipes"])


class FindingOut(BaseModel):
    """A check of a recipe, as the runs so far have it."""

    check: str
    value: float | None
    """Points, nats per token, or a ratio; null where the runs allow no estimate."""
    low: float | None
    high: float | None
    text: str
    state: str


class RecipeCardOut(BaseModel):
    """What the source reports, and what was observed here."""

    recipe: str
    title: str
    claim: str
    paper: str
    source: str
    rule: str
    study_id: int
    status: StudyStatus
    outcome: Outcome | None
    """Null until every run has ended."""
    label: str
    here: str
    ran_on: str
    differs: str
    used: str
    findings: list[FindingOut]
    published: list[str]
    failure: str
    """The most common reason why runs failed; otherwise empty."""

    @classmethod
    def of(cls, session: Reading, card: RecipeCard) -> "RecipeCardOut":
        model = base_models.by_id(session, card.study.base_model_id)
        return cls(
            recipe=card.recipe.id,
            title=card.recipe.title,
            claim=card.recipe.claim,
            paper=card.recipe.paper,
            source=card.recipe.source.citation,
            rule=card.recipe.rule,
            study_id=card.study.id,
            status=card.status,
            outcome=card.outcome,
            label=outcome_label(card),
            here="; ".join(observed(finding) for finding in card.findings),
            ran_on=ran_on(card),
            differs=differs(card, model.facts if model else None),
            used=used(card),
            findings=[
                FindingOut(
                    check=finding.check.name,
                    value=finding.estimate.value if finding.estimate else None,
                    low=finding.estimate.low if finding.estimate else None,
                    high=finding.estimate.high if finding.estimate else None,
                    text=observed(finding),
                    state=check_state(card, finding),
                )
                for finding in card.findings
            ],
            published=published_text(card.recipe.published),
            failure=card.failure,
        )


class QueuedRecipe(BaseModel):
    """A recipe whose study is queued."""

    recipe: str
    study_id: int


@router.get("", operation_id="listRecipes")
def listing() -> list[Recipe]:
    """The packaged recipes: claims, sources, studies, and the rules that decide."""
    return list(recipes.library().values())


@router.get("/{recipe_id}", operation_id="getRecipe", responses=problems(404))
def get(recipe_id: str) -> Recipe:
    """A recipe."""
    return recipes.get(recipe_id)


@router.post("/{recipe_id}/runs", status_code=202, operation_id="runRecipe", responses=problems(404, 409, 422))
def run(
    db: NewDb,
    bell: Bell,
    settings: Config,
    once: OnceByHeader,
    recipe_id: str,
    request: RecipeRequest,
    insist: Insist = False,
) -> QueuedRecipe:
    """Queue a recipe's study on a base model and a dataset. The rule is stored with it, so later changes of the recipe
    do not change it. Nothing is queued if the recipe does not fit the model or the data."""

    def then(session: Session, study_id: int) -> QueuedRecipe:
        return once.keep(session, QueuedRecipe(recipe=recipe_id, study_id=study_id))

    return recipes.run(db, bell, settings, recipe_id, request, then, insist=insist)


@router.get("/{recipe_id}/card", operation_id="getRecipeCard", responses=problems(404))
def card(
    session: Reading,
    recipe_id: str,
    study: Annotated[
        int | None, Query(ge=1, le=LARGEST_ID, description="A study of the recipe; default: the newest.")
    ] = None,
) -> RecipeCardOut:
    """The result of a recipe's newest study: paper, here, and one of three outcomes."""
    return RecipeCardOut.of(session, recipes.card(session, recipe_id, study))
