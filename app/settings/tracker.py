"""Settings of the experiment tracker to which the control node exports studies."""

import re
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from app.domain.messages import _

SHORTEST_INTERVAL = 5
"""Seconds between live exports."""


class TrackerSettings(BaseSettings):
    """Settings of the tracker, a part of `Settings`."""

    tracker: str = ""
    """Where the control node exports every study that ends: the address of an MLflow server, `tensorboard:DIR`,
    `trackio:PROJECT` or `wandb:PROJECT`; empty exports none."""
    tracker_token: SecretStr = SecretStr("")
    """API token with which it reads them from the server at `url`, where login is required."""
    tracker_live_seconds: float = Field(default=0.0, ge=0, le=86400, allow_inf_nan=False)
    """Interval at which it exports the studies that go on, from 5 s to a day; 0 exports a study only when it has
    ended."""

    @field_validator("tracker")
    @classmethod
    def _tracker_is_an_address(cls, address: str) -> str:
        if not address:
            return address
        if re.match(r"(mlflow:)?https?://[^/]*@", address):
            raise ValueError(
                _("it contains a user name or a password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
            )
        if not re.fullmatch(r"(mlflow:)?https?://[^/]\S*|(tensorboard|trackio|wandb):.+", address):
            raise ValueError(
                _(
                    "this is not the address of a tracker: write http://host:5000 for an MLflow server, or "
                    "tensorboard:DIR, trackio:PROJECT or wandb:PROJECT"
                )
            )
        return address

    @field_validator("tracker_live_seconds")
    @classmethod
    def _interval_leaves_time(cls, seconds: float) -> float:
        if 0 < seconds < SHORTEST_INTERVAL:
            raise ValueError(
                _(
                    "an export takes seconds, so this is at least %(seconds)s; 0 exports a study only when it "
                    "has ended",
                    seconds=SHORTEST_INTERVAL,
                )
            )
        return seconds

    @model_validator(mode="after")
    def _tracker_takes_more(self) -> Self:
        if self.tracker_live_seconds and not self.tracker:
            raise ValueError(
                _("VEZNA_TRACKER_LIVE_SECONDS exports nothing without VEZNA_TRACKER: set both, or neither.")
            )
        if self.tracker_live_seconds and self.tracker.startswith(("trackio:", "wandb:")):
            raise ValueError(
                _(
                    "VEZNA_TRACKER_LIVE_SECONDS needs MLflow or TensorBoard: an export cannot append to a run of "
                    "Trackio or of W&B's offline mode. Unset it, and studies are exported when they end."
                )
            )
        return self
