"""`vezna serve`: an OpenAI-compatible endpoint for runs' models, on a machine that has a worker's packages."""

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from app.cli.shared import say
from app.domain.errors import Invalid, Unavailable
from app.domain.methods import AnyMethod
from app.domain.models import vllm
from app.domain.models.exports import ExportFormat
from app.domain.tasks import DECODERS
from app.features.serving.rules import Subject
from app.features.serving.services import inference
from app.features.serving.services.inference import Answerer
from app.settings import ROOT, load
from app.settings.values import LOOPBACK_ADDRESSES
from app.store.database import migrate
from app.store.database.session import Database
from app.store.models import queries as base_models
from app.words.i18n import gettext as _


def serve(
    runs: Annotated[list[int], typer.Argument(metavar="RUN…", help="Numbers of runs that generate text.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8001,
) -> None:
    """Serve runs' models by OpenAI's API, for evaluation and small loads: each run by the name run-RUN, and their base
    model by its own name. Beyond loopback a client needs an API token."""
    if find_spec("torch") is None:
        raise Unavailable(_("Missing: torch. Install with: pip install 'vezna[worker]'"))
    settings = load()
    database = Database(settings.database)
    migrate.require_current(database)
    with database.reading() as session:
        answerers = inference.side_by_side(session, [Subject(run_id=run) for run in dict.fromkeys(runs)])
        if classifier := next((one for one in answerers if not one.writes), None):
            raise Invalid(_("Run %(id)s classifies texts. Use: vezna predict %(id)s FILE", id=classifier.run.id))
        model = base_models.by_id(session, answerers[0].run.base_model_id)
    database.dispose()
    source = model.location if model and model.source != "sample" else ""
    revision = model.pinned if model and model.source == "hub" else ""
    names = [answerers[0].run.spec.base_model, *(f"run-{one.run.id}" for one in answerers)]
    where = f"[{host}]" if ":" in host else host
    say(
        _(
            "OpenAI-compatible endpoint: %(url)s, models %(models)s",
            url=f"http://{where}:{port}/v1",
            models=", ".join(names),
        ),
        wrap=False,
    )
    if host not in LOOPBACK_ADDRESSES:
        say(_("Each request needs an API token of Vezna with the scope read, as the API key."))
    say(_("It answers one request at a time on the CPU: for evaluation and small loads. For more:"))
    for line in larger(answerers, source, revision):
        say(f"  {line}", wrap=False)
    say(_("Stop with Ctrl+C."))
    sys.stdout.flush()
    os.chdir(ROOT)
    command = [sys.executable, "-m", "worker.features.serving.openai", "--host", host, "--port", str(port)]
    os.execv(sys.executable, [*command, *(str(one.run.id) for one in answerers)])  # noqa: S606 its own interpreter


def larger(answerers: list[Answerer], base: str, revision: str) -> list[str]:
    """Commands that serve the same models for larger loads. `base`: hub id or directory of the base model; empty for a
    packaged one, which no other server finds, so that its runs are merged. `revision`: its commit on the hub."""
    lines: list[str] = []
    causal = [one for one in answerers if one.task in DECODERS and base]
    adapters = [one for one in causal if vllm.loads(one.run.spec.method)]
    for one in adapters:
        lines += _exported(one, ExportFormat.ADAPTER)
    if adapters:
        rank = max(vllm.saved_rank(one.run.spec.method) for one in adapters)
        folders = {f"run-{one.run.id}": f"./run-{one.run.id}" for one in adapters}
        lines.append(vllm.command(base, revision, rank, folders))
        lines.append(f"lorax-launcher --model-id {base} --adapter-source local")
    for one in answerers:
        if one not in adapters:
            lines += _whole(one, one.run.spec.method)
    return lines


def _whole(one: Answerer, method: AnyMethod) -> list[str]:
    """Commands for a run whose model is served as a whole."""
    if one.task not in DECODERS:
        return [
            _("run %(id)s: vLLM and LoRAX serve no %(task)s models; use transformers", id=one.run.id, task=one.task)
        ]
    if method.unmergeable is not None:
        return [
            _(
                "run %(id)s: vLLM and LoRAX cannot load %(name)s; use transformers and PEFT",
                id=one.run.id,
                name=method.facts.name,
            )
        ]
    return [*_exported(one, ExportFormat.MERGED_BFLOAT16), f"vllm serve ./run-{one.run.id}"]


def _exported(one: Answerer, form: ExportFormat) -> list[str]:
    run = one.run.id
    archive = f"run-{run}-{form.value}.tar"
    return [f"vezna export-model {run} --format {form.value} && mkdir run-{run} && tar -xf {archive} -C run-{run}"]
