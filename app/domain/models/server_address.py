"""An OpenAI-compatible server that a user names."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from app.domain.messages import _
from app.domain.validation import Name, invalid_field

MAX_URL_LENGTH = 500
MAX_MODEL_LENGTH = 300
_KEY = re.compile(r"[!-~]{1,4000}")


def _base_address(url: str) -> str:
    """Without a slash at its end. A query could hold a secret, and paths are appended to the address."""
    if "?" in url or "#" in url:
        raise invalid_field(
            "", _("The address has a query or a fragment"), _("Write the base URL, such as http://127.0.0.1:8001/v1")
        )
    return url.rstrip("/")


class ServerAddress(BaseModel):
    """A server that a user names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[Name, Field(max_length=MAX_URL_LENGTH), AfterValidator(_base_address)]
    """Base URL of an OpenAI-compatible server: `http://127.0.0.1:8001/v1`."""
    api_key: SecretStr = SecretStr("")
    """Sent as a bearer token. It is stored encrypted, and removed when the work has ended."""

    @model_validator(mode="after")
    def _key_fits_a_header(self) -> Self:
        key = self.api_key.get_secret_value()
        if key and not _KEY.fullmatch(key):
            raise invalid_field(
                "api_key",
                _("The API key has characters that a header cannot carry, or more than 4,000 of them"),
                _("Copy it again, without spaces and line breaks"),
            )
        return self
