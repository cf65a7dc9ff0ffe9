"""The worker's part of exports, pushes and parity checks.

It may run any number of times; a second run finds nothing to claim. An attempt that dies leaves nothing that counts:
the sweep sends the task again, and the next attempt begins anew under a name of its own.
"""

import importlib
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.broker.queue import EXPORT, PARITY, PUSH
from app.domain.comparison.fairness.export_gate import ExportScores
from app.domain.errors import Invalid
from app.domain.messages import _
from app.domain.models.exports import SMALL_FILES_BYTES, ExportedFile, ExportJob, disk_bytes, too_large
from app.domain.models.hub_access import HubAccess
from app.domain.runs.job import TrainJob
from app.features.shipping.rules.push import CARD_FILE, namespace_refusal
from app.features.shipping.rules.receipts import RECEIPT_FILE
from app.features.shipping.services import exports as model_exports
from app.features.shipping.services import pushes as hub_pushes
from app.features.shipping.services.exports import Claim
from app.features.shipping.services.pushes import PushClaim
from app.features.shipping.services.work import EXPORTS, PUSHES
from app.services.ownership.vault import Vault
from worker.children.work import WorkCancelled
from worker.features.shipping.host import ExportQueue
from worker.features.shipping.parity import ParityQueue, check
from worker.machine import disk
from worker.nodes.claimed import Report, by_thread, noting_the_end, reporter, while_reporting
from worker.nodes.node import Node
from worker.samples.host import located
from worker.training.workdir import workdir

if TYPE_CHECKING:
    from worker.nodes.context import Context


STORING = 0.9
"""Share of the work that is done when the files are stored."""


def export(context: "Context", export_id: int, command: tuple[str, ...] = ExportQueue.command) -> None:
    write = context.database.write
    claim = write(lambda session: model_exports.begin(session, export_id))
    if claim is None:
        return

    with noting_the_end(
        context,
        EXPORTS,
        claim,
        lambda why: _("The export failed (%(why)s).", why=why),
        undo=lambda: context.files.discard(claim.prefix),
        if_full=disk.EXPORT_AGAIN,
    ):
        files, scores = _written(context, claim, reporter(context, context.one(ExportQueue), EXPORTS, claim), command)
        if not write(partial(model_exports.succeeded, claim=claim, files=files, scores=scores)):
            context.files.discard(claim.prefix)


def _written(
    context: "Context", claim: Claim, report: Report, command: tuple[str, ...]
) -> tuple[list[ExportedFile], ExportScores]:
    """Write the files, have them scored, and store them. Raises WorkCancelled if the claim is no longer valid."""
    with workdir(context.settings.home) as folder:
        for earlier in range(1, claim.epoch):  # not the folder: a later attempt may have succeeded meanwhile
            context.files.remove(f"{claim.folder}/{earlier}")
        _check_disk(context, claim)
        weights, output = folder / "weights", folder / "export"
        output.mkdir()
        wanted = {file.file: weights / file.name.partition("/")[2] for file in claim.weights}
        wanted |= {claim.job.dataset_file: folder / "dataset.parquet"}
        wanted |= {claim.predictions: folder / "predictions.parquet"} if claim.predictions else {}
        for stored, local in wanted.items():
            while_reporting(partial(context.files.get, stored, local), report, 0.0)
        location = while_reporting(lambda: located(claim.job.model_location, context.settings.home), report, 0.0)
        job = claim.job.model_copy(
            update={
                "model_location": location,
                "dataset_file": str(folder / "dataset.parquet"),
                "output": str(output),
                "threads": context.settings.threads,
            }
        )
        request = ExportJob(
            format=claim.format,
            job=job,
            weights=str(weights),
            whole=claim.whole,
            predictions=str(folder / "predictions.parquet") if claim.predictions else "",
            hub=context.hub_access(claim.hub_user),
        )
        answer = context.one(ExportQueue).run(
            request.model_dump(mode="json"), lambda share, _rows: report(share * STORING), command=command
        )
        files = [ExportedFile.model_validate(file) for file in answer["files"]]
        for file in files:
            put = partial(_store, context, output / file.name, f"{claim.prefix}/{file.name}")
            while_reporting(put, report, STORING)
        return files, ExportScores.model_validate(answer["scores"])


def _store(context: "Context", file: Path, name: str) -> None:
    try:
        context.files.put(file, name)
    except Exception as error:  # whatever the store's library raises
        if disk.is_full(error) and (store := context.files.directory) is not None:
            raise disk.full(store, file.stat().st_size, disk.EXPORT_AGAIN) from error
        raise


def _check_disk(context: "Context", claim: Claim) -> None:
    """Raise Invalid unless there is room for the export in this worker's home, and in the files store."""
    needed, home, store = claim.weights_bytes + SMALL_FILES_BYTES, context.settings.home, context.files.directory
    here = disk_bytes(claim.format, claim.weights_bytes, sum(file.bytes for file in claim.weights))
    here += needed if store is not None and _same_disk(store, home) else 0
    if not claim.whole and claim.job.model_files:
        here += _to_download(claim.job, home, context.hub_access(claim.hub_user))
    if here > (free := shutil.disk_usage(home).free):
        raise Invalid.of([too_large(here, free, _("the worker (VEZNA_HOME)"))])
    model_exports.refuse_full_disk(context.files, claim.weights_bytes)


def _to_download(job: TrainJob, home: Path, access: HubAccess | None) -> int:
    """Bytes of the base model's files that the hub's cache, or that of the user's token, lacks, if it is on the disk of
    `home`. On a disk of its own the export process checks it (`worker.engine.models.hub.hub`)."""
    hub: Any = importlib.import_module("huggingface_hub")  # not before it is needed: it takes seconds
    if not _same_disk(Path(hub.constants.HF_HUB_CACHE), home):
        return 0
    caches: Any = importlib.import_module("worker.engine.models.hub.access")
    cache = caches.user_cache(access) if access else None
    cached = partial(hub.try_to_load_from_cache, job.model_location, cache_dir=cache, revision=job.model_revision)
    return sum(file.bytes for file in job.model_files if not isinstance(cached(filename=file.name), str))


def _same_disk(one: Path, other: Path) -> bool:
    """Directories that do not exist yet are on the disk of the parent that does."""
    first, second = (next(p for p in (place, *place.parents) if p.exists()) for place in (one, other))
    return first.stat().st_dev == second.stat().st_dev


GATHERED = 0.2
"""Share of the work that is done when all files are on this machine."""
PUSH_AGAIN = _("Free some space, and push again.")


def push(context: "Context", push_id: int) -> None:
    write = context.database.write
    claim = write(lambda session: hub_pushes.begin(session, push_id))
    if claim is None:
        return
    with noting_the_end(
        context, PUSHES, claim, lambda why: _("The push failed (%(why)s).", why=why), if_full=PUSH_AGAIN
    ):
        pushed = _pushed(context, claim, reporter(context, context.one(ExportQueue), PUSHES, claim))
        write(partial(hub_pushes.succeeded, claim=claim, commit=pushed.commit, url=pushed.url))


def _pushed(context: "Context", claim: PushClaim, report: Report) -> Any:
    """Commit and address. Raises WorkCancelled if the claim is no longer valid."""
    hub: Any = importlib.import_module(
        "worker.features.shipping.hub"
    )  # not before it is needed: huggingface_hub takes seconds
    namespaces = context.settings.hub_namespaces  # the worker has the token, so its own settings decide
    if refused := namespace_refusal(claim.repository, namespaces, login=claim.user_id is not None):
        raise Invalid.of([refused])
    with workdir(context.settings.home) as folder:
        files = folder / "repository"
        for file in claim.files:
            get = partial(context.files.get, f"{claim.prefix}/{file.name}", files / file.name)
            while_reporting(get, report, 0.0)
        _write(files / CARD_FILE, claim.card)
        if claim.receipt:  # a push that was queued by an earlier version may lack it
            _write(files / RECEIPT_FILE, claim.receipt)
        shares = [GATHERED]

        def arrived(share: float) -> None:
            shares.append(GATHERED + (1 - GATHERED) * share)
            if not report(shares[-1]):
                raise WorkCancelled

        with context.database.reading() as session:
            own = hub_pushes.access_of(session, Vault(context.settings), claim)
        upload = partial(
            hub.upload,
            files,
            claim.repository,
            own.token if own else context.settings.hub_token.get_secret_value(),
            claim.title,
            arrived,
            private=claim.private,
            replaced=claim.replaced,
            own=own is not None,
        )
        return while_reporting(upload, lambda _share: report(shares[-1]), GATHERED)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


NODE = Node(
    tasks={
        EXPORT: by_thread(ExportQueue, export),
        PUSH: by_thread(ExportQueue, push),
        PARITY: by_thread(ParityQueue, check),
    }
)
