"""The environment of the processes that load models: ours, without what they have no business with."""

import os

from worker.training.environment import TRAINER_ENV

SECRETS = (
    "VEZNA_DATABASE_URL",
    "VEZNA_DATABASE_URL_FILE",
    "VEZNA_BROKER_URL",
    "VEZNA_BROKER_URL_FILE",
    "VEZNA_HUB_TOKEN",
    "VEZNA_HUB_TOKEN_FILE",
)
"""They read no database and ring no doorbell, so they get neither address. The hub's token has another name there."""
SECRET_PREFIXES = ("AWS_", "FSSPEC_")
"""Files are stored by the supervisor."""


def child_environment() -> dict[str, str]:
    """A token for gated models (`HF_TOKEN`) stays: loading is what they are for."""
    kept = {k: v for k, v in os.environ.items() if k not in SECRETS and not k.startswith(SECRET_PREFIXES)}
    return kept | TRAINER_ENV
