"""Recipes: read the packaged ones, run one as a study, and judge it by the rule that was stored with that study."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.comparison.study import StudyComparison
from app.domain.errors import Invalid, NotFound
from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.domain.studies.spec import StudySpec, StudyStatus
from app.domain.validation import Name, field_error
from app.features.recipes import queries as rows
from app.features.recipes.rules.checks import Finding, findings, outcome, seeds_counted
from app.features.recipes.rules.drift import PublishedHistory
from app.features.recipes.rules.recipes import Outcome, Recipe
from app.features.recipes.rules.study import study_of
from app.features.recipes.tables import RecipeRunRow
from app.services.models.compatibility import Compatible
from app.services.runs import submission
from app.services.runs.submission import Accepted
from app.services.studies import studies as study_service
from app.settings import Settings
from app.store.data import queries as datasets
from app.store.database.session import Database
from app.store.models import queries as base_models
from app.store.studies import queries as studies
from app.store.tables import StudyRow

PACKAGE = "recipes"


class RecipeRequest(BaseModel):
    """What a recipe is to run on."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"example": {"base_model": "all-MiniLM-L6-v2", "dataset": "bbc-headlines"}},
    )

    base_model: Name = Field(max_length=200)
    dataset: Name = Field(max_length=200)
    general_text: Name | None = Field(default=None, max_length=200)
    """For a recipe that measures forgetting: a dataset of plain texts."""


@dataclass(frozen=True)
class RecipeCard:
    """What a recipe claims, and what its runs show here."""

    recipe: Recipe
    """As it was when its study was submitted."""
    study: StudyRow
    status: StudyStatus
    comparison: StudyComparison
    findings: tuple[Finding, ...]
    outcome: Outcome | None
    """None until every run has ended."""
    done: int
    """Runs that have ended, trials included."""
    succeeded: int
    """Those of them that have a result."""
    total: int
    """Runs queued so far, trials included."""
    seeds: int
    """Seeds of the study that have a result for every arm."""
    device_seconds: float
    """That its runs occupied a device, trials and failed runs included."""
    data: str
    """The dataset's title."""

    @property
    def packaged(self) -> bool:
        """The recipe still has a page."""
        return self.recipe.id in library()

    @property
    def failure(self) -> str:
        """The most common reason why runs failed, or the trials of an arm without runs; empty where none did."""
        reasons = self.comparison.failures
        return reasons[0][0].message if reasons else ""


@cache
def library() -> Mapping[str, Recipe]:
    """The packaged recipes by id, in alphabetical order. Raises Invalid for a file that is no recipe."""
    names = sorted(file.name for file in files(PACKAGE).iterdir() if file.name.endswith(".yaml"))
    recipes = [read(name, text(name)) for name in names]
    return {recipe.id: recipe for recipe in recipes}


def text(name: str) -> str:
    """A file of the package."""
    return files(PACKAGE).joinpath(name).read_text(encoding="utf-8")


def read(name: str, content: str) -> Recipe:
    """A recipe from YAML. Raises Invalid with the file, the field and the reason."""
    try:
        return Recipe.model_validate(yaml.safe_load(content))
    except yaml.YAMLError as error:
        raise Invalid(_("%(name)s is not YAML: %(why)s", name=name, why=" ".join(str(error).split()))) from error
    except ValidationError as error:
        fields = [field_error(details, {}) for details in error.errors()]
        why = "; ".join(field.located for field in fields)
        raise Invalid(_("The recipe %(name)s is invalid: %(why)s", name=name, why=why), fields) from error


def get(recipe_id: str) -> Recipe:
    """A packaged recipe. Raises NotFound."""
    recipe = library().get(recipe_id)
    if recipe is None:
        names = ", ".join(library())
        raise NotFound(_("There is no recipe %(recipe)r. Choose from: %(names)s.", recipe=recipe_id, names=names))
    return recipe


@cache
def published(name: str) -> PublishedHistory:
    """Published results that a recipe refers to."""
    return PublishedHistory.model_validate_json(text(f"{name}.json"))


def spec(session: Session, recipe: Recipe, request: RecipeRequest) -> StudySpec:
    """The recipe's study. Raises Invalid with the field of the request and a remedy if it does not fit."""
    model = base_models.by_name(session, request.base_model)
    if model is None or model.facts is None:
        names = ", ".join(row.name for row in base_models.everyone(session) if row.facts) or "none yet"
        what = _("There is no inspected base model %(name)r", name=request.base_model)
        raise Invalid.field("base_model", what, _("Choose from: %(names)s", names=names))
    dataset = datasets.by_name(session, request.dataset)
    if dataset is None:
        names = ", ".join(row.name for row in datasets.everyone(session)) or "none yet"
        what = _("There is no dataset %(name)r", name=request.dataset)
        raise Invalid.field("dataset", what, _("Choose from: %(names)s", names=names))
    if recipe.study.task not in dataset.facts.tasks:
        what = _("%(name)s has no rows for %(task)s", name=request.dataset, task=recipe.study.task)
        raise Invalid.field("dataset", what, _("Choose another dataset"))
    labels = len(dataset.facts.labels)
    return study_of(recipe, request.base_model, request.dataset, request.general_text, model.facts, labels)


def run(
    db: Database,
    bell: Doorbell,
    settings: Settings,
    recipe_id: str,
    request: RecipeRequest,
    then: Callable[[Session, int], Accepted],
    *,
    insist: bool,
) -> Accepted:
    """Queue a recipe's study, and do `then` with its id in the same transaction. Raises NotFound, and Invalid; then
    nothing is queued."""
    recipe = get(recipe_id)
    with db.reading() as session:
        study_spec = spec(session, recipe, request)

    def accept(session: Session, compatible: Compatible) -> Accepted:
        study = study_service.submit(session, bell, study_spec, compatible)
        session.add(RecipeRunRow(recipe=recipe.id, study_id=study.id, recipe_json=recipe.model_dump(mode="json")))
        session.flush()
        return then(session, study.id)

    return submission.submit(db, bell, settings, study_spec, accept, insist=insist)


def card(session: Session, recipe_id: str, study_id: int | None = None) -> RecipeCard:
    """The card of a recipe's newest study, or of another one. Raises NotFound."""
    get(recipe_id)
    row = rows.newest(session, recipe_id, study_id)
    if row is None:
        missing = _("The recipe %(recipe)s has not run here yet. Run it first.", recipe=recipe_id)
        if study_id is not None:
            missing = _("Study %(study)s is no run of the recipe %(recipe)s.", study=study_id, recipe=recipe_id)
        raise NotFound(missing)
    return _card(session, row)


def of_study(session: Session, study_id: int, comparison: StudyComparison) -> RecipeCard | None:
    """The card of the recipe that a study tests; None for other studies."""
    row = rows.of_study(session, study_id)
    return _card(session, row, comparison) if row else None


def cards(session: Session) -> Iterator[RecipeCard]:
    """The card of the newest study of each recipe that has run, the newest first."""
    for row in rows.newest_of_each(session):
        if row.recipe in library():
            yield _card(session, row)


def _card(session: Session, row: RecipeRunRow, known: StudyComparison | None = None) -> RecipeCard:
    recipe = Recipe.model_validate(row.recipe_json)
    study = studies.get(session, row.study_id)
    comparison = known or study_service.comparison(session, row.study_id)
    progress = study_service.progress(session, row.study_id)
    ended = progress.status.terminal and not study.tuning
    results = findings(recipe, comparison, ended=ended)
    dataset = datasets.by_id(session, study.dataset_id)
    return RecipeCard(
        recipe=recipe,
        study=study,
        status=progress.status,
        comparison=comparison,
        findings=results,
        outcome=outcome(recipe, results) if ended else None,
        done=progress.done,
        succeeded=sum(run.status == RunStatus.SUCCEEDED for run in progress.runs),
        total=len(progress.runs),
        seeds=len(seeds_counted(comparison.arms, study.spec.seeds)),
        device_seconds=sum(run.device_seconds for run in progress.runs),
        data=dataset.shown if dataset else study.spec.dataset,
    )
