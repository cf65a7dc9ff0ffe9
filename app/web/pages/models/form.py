"""The form that registers a base model: a hub id, a directory or the packaged sample."""

from collections.abc import Mapping
from pathlib import PurePath

from pydantic import ValidationError
from starlette.datastructures import FormData

from app.domain.errors import Invalid
from app.domain.messages import _
from app.domain.models.base_model import SAMPLE_MODEL, ModelRegistration
from app.web.forms.sentences import sentences

FIELDS = ("location", "revision", "name", "source")
BLANK: Mapping[str, str] = dict.fromkeys(FIELDS, "")
LONGEST = 500
PATH_STARTS = ("/", "~", ".")
"""How a directory begins, and no hub id."""


def typed(form: FormData) -> Mapping[str, str]:
    """The fields as they were typed."""
    return {name: str(form.get(name, "")).strip()[:LONGEST] for name in FIELDS}


def registration(values: Mapping[str, str]) -> ModelRegistration:
    """The request; the name defaults to the hub id or the directory's. Raises Invalid with an error for each field."""
    if values["source"] == "sample":
        return ModelRegistration(name=values["name"] or SAMPLE_MODEL, source="sample")
    location = values["location"]
    if not location:
        raise Invalid.field("location", _("Enter the id of a model on the hub, or a directory"))
    is_directory = location.startswith(PATH_STARTS)
    name = values["name"] or (PurePath(location).name if is_directory else location)
    source = "directory" if is_directory else "hub"
    try:
        return ModelRegistration.model_validate({**values, "source": source, "name": name})
    except ValidationError as error:
        raise Invalid.of(sentences(error.errors())) from None
