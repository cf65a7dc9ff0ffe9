"""The form that makes a base model known: a hub id or a directory, told apart by how it begins, or the sample."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import FormData

from app.domain.errors import Invalid
from app.domain.messages import Message
from app.domain.models.base_model import SAMPLE_MODEL, ModelRegistration
from app.web.forms.sentences import sentences

FIELDS = ("location", "revision", "name", "source")
LONGEST = 500


@dataclass(frozen=True)
class ModelForm:
    """What was typed."""

    values: Mapping[str, str]

    @classmethod
    def typed(cls, form: FormData) -> "ModelForm":
        """From a request."""
        return cls({name: str(form.get(name, "")).strip()[:LONGEST] for name in FIELDS})

    @classmethod
    def blank(cls) -> "ModelForm":
        """Nothing yet."""
        return cls(dict.fromkeys(FIELDS, ""))

    @property
    def is_directory(self) -> bool:
        """It begins as a path does, which no hub id can."""
        return self.values["location"].startswith(("/", "~", "."))

    def registration(self) -> ModelRegistration:
        """What it means; a model without a name is called as it is on the hub, or as its directory.

        Raises Invalid with an error for each field that is wrong.
        """
        if self.values["source"] == "sample":
            return ModelRegistration(name=self.values["name"] or SAMPLE_MODEL, source="sample")
        location = self.values["location"]
        if not location:
            raise Invalid.field("location", Message("Enter the id of a model on the hub, or a directory"))
        body: dict[str, Any] = dict(self.values) | {
            "source": "directory" if self.is_directory else "hub",
            "name": self.values["name"] or (PurePath(location).name if self.is_directory else location),
        }
        try:
            return ModelRegistration.model_validate(body)
        except ValidationError as error:
            fields = sentences(error.errors())
            raise Invalid.of(fields) from None
