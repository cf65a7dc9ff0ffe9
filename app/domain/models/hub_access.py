"""A user's access to the Hugging Face hub, as a worker hands it to the child process that needs it."""

from pydantic import BaseModel, ConfigDict, Field


class HubAccess(BaseModel):
    """A user's token. It goes by stdin only: to no command line, environment, file, log or message of the broker."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    user_id: int
    """What the token opens is cached for this user and token, apart from what all users share."""
    token: str = Field(repr=False)
