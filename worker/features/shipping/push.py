"""Push an export to the hub: claim it, gather its files, its card and its receipt, upload them, write the outcome."""

import importlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.domain.errors import Invalid
from app.domain.messages import _
from app.features.shipping.rules.push import CARD_FILE, namespace_refusal
from app.features.shipping.rules.receipts import RECEIPT_FILE
from app.features.shipping.services import pushes as hub_pushes
from app.features.shipping.services.pushes import PushClaim
from app.features.shipping.services.work import PUSHES
from app.services.ownership.vault import Vault
from worker.children.work import WorkCancelled
from worker.claimed import Report, noting_the_end, reporter, while_reporting
from worker.features.shipping.host import ExportQueue
from worker.training.workdir import workdir

if TYPE_CHECKING:
    from worker.context import Context

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
