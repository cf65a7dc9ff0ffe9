"""Forms by which data comes that is no file of the reader's: a hub id or a directory, told apart by how it begins; and
how a file is to be read."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError
from starlette.datastructures import FormData

from app.domain.data.uploads import ReadingOptions, SourceRequest
from app.domain.errors import Invalid
from app.domain.messages import Message
from app.web.forms.sentences import sentences

FIELDS = ("location", "config", "revision", "split")
LONGEST = 500


@dataclass(frozen=True)
class SourceForm:
    """What was typed."""

    values: Mapping[str, str]

    @classmethod
    def typed(cls, form: FormData) -> "SourceForm":
        """From a request."""
        return cls({name: str(form.get(name, "")).strip()[:LONGEST] for name in FIELDS})

    @classmethod
    def blank(cls) -> "SourceForm":
        """Nothing yet."""
        return cls(dict.fromkeys(FIELDS, ""))

    def request(self) -> SourceRequest:
        """What it means. Raises Invalid with an error for each field that is wrong."""
        location = self.values["location"]
        if not location:
            raise Invalid.field("location", Message("Enter the id of a dataset on the hub, or a directory"))
        source = "directory" if location.startswith(("/", "~", ".")) else "hub"
        try:
            return SourceRequest.model_validate({"source": source} | dict(self.values))
        except ValidationError as error:
            fields = sentences(error.errors())
            raise Invalid.of(fields) from None


def reading_options(form: FormData | Mapping[str, str]) -> ReadingOptions:
    """How a file is to be read; what is empty is found out. Raises Invalid with an error for each field."""
    typed = {name: form.get(name, "") for name in ReadingOptions.model_fields}
    try:
        return ReadingOptions.model_validate({name: value for name, value in typed.items() if value})
    except ValidationError as error:
        fields = sentences(error.errors())
        raise Invalid.of(fields) from None
