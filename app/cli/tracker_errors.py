"""What went wrong with an experiment tracker, in the user's language."""

from app.domain.errors import Conflict, Invalid, Unavailable, VeznaError
from app.domain.messages import _
from vezna.errors import TrackerError, TrackerMissing, TrackerRefused, TrackerUnreachable, WrongTracker


def tracker_error(error: TrackerError) -> VeznaError:
    """The error of the domain."""
    if isinstance(error, WrongTracker) and error.credentials:
        return Invalid(
            _(
                "%(address)s contains a user name or a password. Set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD instead.",
                address=error.address,
            )
        )
    if isinstance(error, WrongTracker):
        return Invalid(
            _(
                "%(address)s is not the address of a tracker. Write http://host:5000 for an MLflow server, or "
                "tensorboard:DIR, trackio:PROJECT or wandb:PROJECT.",
                address=error.address,
            )
        )
    if isinstance(error, TrackerMissing):
        return VeznaError(
            _(
                "The package %(package)s is not installed here. Run: pip install %(package)s",
                package=error.package,
            )
        )
    if isinstance(error, TrackerUnreachable):
        return Unavailable(
            _(
                "The tracker at %(address)s does not answer (%(why)s). Check that it runs, then export again.",
                address=error.address,
                why=error.why,
            )
        )
    if isinstance(error, TrackerRefused):
        return Conflict(
            _(
                "The tracker at %(address)s refused the export (%(why)s). Check its address and your permissions "
                "there, then export again.",
                address=error.address,
                why=error.why,
            )
        )
    return VeznaError(str(error))
