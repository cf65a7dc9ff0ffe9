"""What went wrong with an experiment tracker, in the user's language."""

from app.domain.errors import Conflict, Invalid, Unavailable, VeznaError
from app.domain.messages import _
from app.words.i18n import gettext, marked
from vezna.errors import (
    NotImported,
    StudyIsPrivate,
    TrackerError,
    TrackerMissing,
    TrackerRefused,
    TrackerUnreachable,
    TrackioElsewhere,
    WrongTracker,
)

NOT_IMPORTED = (
    marked("no run there has this name"),
    marked("%(count)s runs cannot have one seed"),
    marked("%(first)s and %(second)s both have the seed %(seed)s"),
    marked("its parameters state several seeds"),
    marked("its parameters state no seed"),
    marked("it has no metric %(metric)s"),
    marked("its %(metric)s ends at %(score)g, and a score is a fraction from 0 to 1"),
    marked("it has no event files"),
    marked("it is broken at byte %(place)s"),
    marked("its hyperparameters are broken"),
    marked("its status is %(status)s"),
    marked("it is no folder of MLflow's file store"),
    marked("it has no experiment %(name)s"),
    marked("it has several experiments, or none"),
    marked("there is no %(file)s"),
    marked("it is broken (%(why)s)"),
    marked("two runs there have the name %(name)s"),
    marked("Give one of them another name, or copy its folder elsewhere"),
    marked("it has no runs of Weights & Biases"),
    marked("it is no file of Weights & Biases"),
    marked("it is still running, or its process was killed"),
    marked("Choose from the runs there: %(there)s"),
    marked("Select runs that have finished"),
    marked("Name a server, or the folder mlruns"),
    marked("Write the name of one after #; there are: %(there)s"),
    marked("Set TRACKIO_DIR, or name the file"),
    marked("Copy it again from where Trackio wrote it"),
    marked("Name the folder wandb, or one of a run in it"),
    marked("Select one of them by its name"),
    marked("Select the run that counts by its name"),
    marked("Select it by its name and give its seed"),
    marked("Choose from its metrics: %(there)s"),
    marked("Choose another metric"),
    marked("Name the folder that TensorBoard is given"),
    marked("Check the file"),
    marked("Remove the file, or copy it again from where it was written"),
)
"""What `vezna.trackers` says of a run or a source, for the catalogue."""


def tracker_error(error: TrackerError) -> VeznaError:
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
    if isinstance(error, NotImported):
        what, remedy = gettext(error.what, **error.values), gettext(error.remedy, **error.values)
        return Invalid(
            _("%(source)s cannot be imported: %(what)s. %(remedy)s.", source=error.source, what=what, remedy=remedy)
        )
    if isinstance(error, StudyIsPrivate):
        return Conflict(_("The study is private now. It is exported again once the team sees it."))
    if isinstance(error, TrackerMissing):
        return VeznaError(
            _(
                "The package %(package)s is not installed here. Run: pip install %(package)s",
                package=error.package,
            )
        )
    if isinstance(error, TrackioElsewhere):
        return Invalid(
            _(
                "%(variable)s is set, so Trackio would write to another machine, where an export cannot find what an "
                "earlier one wrote and would write it twice, perhaps in public. Unset it, export, and publish the "
                "project with: trackio sync --project %(project)s",
                variable=error.variable,
                project=error.project,
            )
        )
    if isinstance(error, TrackerUnreachable):
        return Unavailable(
            _(
                "The tracker at %(address)s does not answer (%(why)s). Check that it runs, then try again.",
                address=error.address,
                why=error.why,
            )
        )
    if isinstance(error, TrackerRefused):
        return Conflict(
            _(
                "The tracker at %(address)s refused (%(why)s). Check its address and your permissions there, then try "
                "again.",
                address=error.address,
                why=error.why,
            )
        )
    return VeznaError(str(error))
