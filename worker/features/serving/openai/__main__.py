"""The server of `vezna serve`: `python -m worker.features.serving.openai --host HOST --port PORT RUN…`, which checks
its arguments."""

import argparse
import sys

import uvicorn

from app.domain.errors import VeznaError
from app.features.serving.rules import Subject
from app.features.serving.services import inference
from app.settings.values import LOOPBACK_ADDRESSES
from worker.features.serving.inference.host import Inference
from worker.features.serving.openai import server
from worker.features.serving.openai.queue import Answering
from worker.nodes.context import Context, process_context


def served(context: Context, run_ids: list[int]) -> dict[str, Subject]:
    """The models by name: the base model of the first run, and every run. Raises NotFound, Invalid."""
    with context.database.reading() as session:
        answerers = inference.side_by_side(session, [Subject(run_id=run_id) for run_id in run_ids])
    base = {answerers[0].run.spec.base_model: Subject(run_id=run_ids[0], base=True)}
    return base | {f"run-{run_id}": Subject(run_id=run_id) for run_id in run_ids}


def main() -> None:
    """Serve until the process is told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("runs", type=int, nargs="+")
    options = parser.parse_args()
    context = process_context()
    try:
        models = served(context, options.runs)
    except VeznaError as error:
        sys.exit(error.message)
    answering = Answering(Inference(context.settings, context.database, context.files))
    local = options.host in LOOPBACK_ADDRESSES
    app = server.create(models, answering, context.database, open_to_all=local)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", server_header=False)


if __name__ == "__main__":
    main()
