"""Forms whose button may be pressed twice: the key is a hidden field (`app.web.http.idempotency`)."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from app.web.forms.sent import SentForm
from app.web.http.dependencies import Db
from app.web.http.files.uploads import FormFiles
from app.web.http.idempotency import FIELD, Once, contents, held


async def of_form(request: Request, db: Db, form: SentForm) -> AsyncIterator[Once]:
    async with held(request, db, form.get(FIELD, ""), contents(form), form=True) as once:
        yield once


async def of_files(request: Request, db: Db, received: FormFiles) -> AsyncIterator[Once]:
    """The key of a form with files."""
    sent = contents(received.fields, received.digests)
    async with held(request, db, received.fields.get(FIELD, ""), sent, form=True) as once:
        yield once


OnceByForm = Annotated[Once, Depends(of_form, scope="function")]
OnceByFiles = Annotated[Once, Depends(of_files, scope="function")]
