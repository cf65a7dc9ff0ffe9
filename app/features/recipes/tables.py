"""Recipes that ran as studies."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.database.base import Base, now
from app.store.database.seen import OF_STUDY


class RecipeRunRow(Base):
    """A study that tests a claim. It keeps the recipe, whose rule is therefore fixed before the runs."""

    __tablename__ = "recipe_runs"
    seen = OF_STUDY

    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True)
    recipe: Mapped[str] = mapped_column(String(60), index=True)
    """Id of the recipe."""
    recipe_json: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)
