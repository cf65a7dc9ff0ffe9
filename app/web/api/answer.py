"""Answers that show an object of the domain or a row of the store."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """An answer with the fields of an object."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def from_object(cls, source: object, **derived: Any) -> Self:
        """Fields are the object's attributes of the same name, or of their alias, except those in `derived`."""
        fields = {name: field.validation_alias for name, field in cls.model_fields.items() if name not in derived}
        names = [alias if isinstance(alias, str) else name for name, alias in fields.items()]
        own = {name: getattr(source, name) for name in names}
        return cls.model_validate(own | derived)
