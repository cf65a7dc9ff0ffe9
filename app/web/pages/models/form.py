"""The form that registers a base model: a hub id, a directory or a packaged model."""

from collections.abc import Mapping
from pathlib import PurePath

from app.domain.models.base_model import SAMPLE_MODELS, ModelRegistration
from app.web.forms.errors import validated
from app.web.forms.sent import MAX_TEXT, source_of

FIELDS = ("location", "revision", "name", "source")


def typed(form: Mapping[str, str]) -> dict[str, str]:
    """The fields as they were typed; empty ones where nothing was sent."""
    return {name: form.get(name, "").strip()[:MAX_TEXT] for name in FIELDS}


def registration(values: Mapping[str, str]) -> ModelRegistration:
    """The request; the name defaults to the hub id or the directory's. Raises Invalid with an error for each field."""
    location = values["location"]
    if values["source"] == "sample":
        source, default = "sample", SAMPLE_MODELS.get(location, location)
    else:
        source = source_of(location)
        default = PurePath(location).name if source == "directory" else location
    name = values["name"] or default
    return validated(ModelRegistration, {**values, "source": source, "name": name})
