"""Recipes: the list, a page for each, and running one."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from pydantic import BeforeValidator
from sqlalchemy.orm import Session

from app.domain.errors import Invalid, OverQuota
from app.features.recipes import service as recipes
from app.features.recipes.figure import recipe as recipe_figure
from app.features.recipes.pages.context import at_button, recipe_page, recipes_page
from app.features.recipes.rules.recipes import Outcome
from app.features.recipes.service import RecipeRequest
from app.web.figures.drawing.render import Theme
from app.web.forms.errors import validated
from app.web.forms.once import OnceByForm
from app.web.forms.sent import SentForm, creating
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId
from app.web.http.errors import status_of
from app.web.http.files.figure_file import Ending, figure_file
from app.web.templating import Render

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
