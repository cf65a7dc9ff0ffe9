"""Queries of recipes that ran."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.features.recipes.tables import RecipeRunRow
from app.store.tables import StudyRow


def newest(session: Session, recipe: str, study_id: int | None = None) -> RecipeRunRow | None:
    """The newest study of a recipe, or the given one if it is one."""
    query = select(RecipeRunRow).where(RecipeRunRow.recipe == recipe).order_by(RecipeRunRow.study_id.desc()).limit(1)
    if study_id is not None:
        query = query.where(RecipeRunRow.study_id == study_id)
    return session.scalars(query).first()


def newest_of_each(session: Session) -> Sequence[RecipeRunRow]:
    """The newest study of every recipe, the newest first."""
    ids = select(func.max(RecipeRunRow.study_id)).group_by(RecipeRunRow.recipe)
    query = select(RecipeRunRow).where(RecipeRunRow.study_id.in_(ids)).order_by(RecipeRunRow.study_id.desc())
    return session.scalars(query).all()


def of_study(session: Session, study_id: int) -> RecipeRunRow | None:
    """The recipe that a study tests; None for other studies."""
    return session.get(RecipeRunRow, study_id)


def studies_of(session: Session, recipe: str, limit: int) -> Sequence[StudyRow]:
    """The studies of a recipe, the newest first."""
    query = select(StudyRow).join(RecipeRunRow, RecipeRunRow.study_id == StudyRow.id)
    return session.scalars(query.where(RecipeRunRow.recipe == recipe).order_by(StudyRow.id.desc()).limit(limit)).all()
