"""Answers that show an object of the domain or a row of the store."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """An answer with the fields of an object."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def from_object(cls, source: object, **derived: Any) -> Self:
        """Fields are the object's attributes of the same name, except those in `derived`."""
        own = {name: getattr(source, name) for name in cls.model_fields if name not in derived}
        return cls.model_validate(own | derived)
