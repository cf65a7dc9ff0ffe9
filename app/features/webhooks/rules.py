"""Webhooks: messages to servers that users name, signed as the Standard Webhooks specification has it.

    webhook-id          the message's; the same in every attempt, so that a receiver can drop a repeated one
    webhook-timestamp   seconds since 1970, of the attempt
    webhook-signature   v1,BASE64(HMAC-SHA256(secret, id.timestamp.body))

Source: https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md (1.0.0).
"""

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from app.domain.validation import Name

PREFIX: Final = "whsec_"
SECRET_BYTES = 32
MAX_URL_LENGTH = 2000
RETRY_SECONDS = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""After each failed attempt; after the last one the webhook is disabled. 75 hours in all."""


class WebhookEvent(StrEnum):
    """What is told."""

    MODEL_PROMOTED = "model.promoted"
    """A version became the champion of a registered model."""
    STUDY_FINISHED = "study.finished"
    """The last run of a study has ended; again, after seeds or arms were added."""
    RUN_FAILED = "run.failed"
    """A run has ended as failed; a run that is tried again has not."""


class NewWebhook(BaseModel):
    """A webhook to create."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[Name, Field(max_length=MAX_URL_LENGTH)]
    events: Annotated[list[WebhookEvent], Field(min_length=1)]


def new_secret() -> str:
    """A secret with 256 random bits, as receivers expect it."""
    return PREFIX + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def new_message_id() -> str:
    """An id with 128 random bits."""
    return f"msg_{secrets.token_hex(16)}"


def signed_headers(secret: str, message_id: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """The headers of an attempt."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.digest(b64decode(secret.removeprefix(PREFIX)), signed, hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{b64encode(digest).decode()}",
    }
