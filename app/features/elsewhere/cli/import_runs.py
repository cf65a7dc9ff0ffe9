"""`vezna import-runs`: bring runs that a tracker recorded into a study whose runs are trained elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, errors, show
from app.words.i18n import gettext as _
from vezna.trackers import import_runs as import_from
from vezna.trackers.recorded.reading import ImportedRun


def import_runs(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM",
            help="mlflow:ADDRESS#EXPERIMENT, trackio:PROJECT, tensorboard:DIR (event files), or wandb:DIR "
            "(offline runs).",
        ),
    ],
    study: Annotated[int, typer.Option("--study", help="Number of the declared study.")],
    arm: Annotated[str, typer.Option("--arm", help="Label of the arm that the runs are of.")],
    metric: Annotated[str, typer.Option("--metric", help="The tracker's metric that is the score.")],
    run: Annotated[
        list[str] | None, typer.Option("--run", help="Name of a run there, or a pattern such as lora-*; default: all.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of a single run that does not state its seed.")] = None,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Import runs from MLflow, TensorBoard, Trackio or W&B into a study whose runs are trained elsewhere. Trackers have
    no score of each test item, so these runs are compared without a verdict."""
    with errors.status(_("Importing from %(source)s", source=source)), Client(url).for_scripts() as client:
        imported = import_from(client, source, study, arm, metric=metric, names=run or (), seed=seed)
    show([asdict(one) for one in imported], as_json, lambda _answer: _lines(imported), wrap=False)


def _lines(imported: Sequence[ImportedRun]) -> Iterator[str]:
    for one in imported:
        values = {"id": one.run_id, "seed": one.seed, "score": f"{one.score:.4f}", "name": one.name}
        if one.changed:
            yield _(
                "Run %(id)s was imported before, and %(name)s has changed since: its score is now %(score)s. An ended "
                "run stays as it is; import %(name)s into another study.",
                **values,
            )
        elif one.known:
            yield _("Run %(id)s was imported before: seed %(seed)s, from %(name)s.", **values)
        else:
            yield _("Run %(id)s is imported: seed %(seed)s, score %(score)s, from %(name)s.", **values)
    lacking = dict.fromkeys(name for one in imported for name in one.lacking)
    yield _("The tracker does not have %(names)s, so there is no verdict.", names=", ".join(lacking))
