"""The client of `vezna.client` for asyncio.

async with AsyncClient() as client:
    study = await client.submit_study(spec)
    async for progress in client.watch_study(study.id):
        print(progress.done, "of", progress.total)
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import httpx2

from vezna.errors import BROKE_OFF, ClientError, Refused, Unreachable
from vezna.sending import calls
from vezna.sending.calls import Call, Download, Watching
from vezna.sending.connection import AWAY, TIMEOUT, Patience, Request, Server, away, broken, json_of, problem_of

P = ParamSpec("P")
T = TypeVar("T")


class AsyncConnection:
    """Requests to one server, with the errors of `vezna.errors`."""

    def __init__(self, url: str | None = None, *, token: str | None = None, language: str = "") -> None:
        """As of `vezna.client.Connection`."""
        self.server = Server.of(url, token, language)
        self._http = httpx2.AsyncClient(base_url=self.server.url, timeout=TIMEOUT, headers=dict(self.server.headers))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def request(self, request: Request) -> Any:
        """Send a request, and again if its answer was lost and it may be; the JSON of the answer."""
        patience = Patience()
        while True:
            try:
                return json_of(self.server, await self._answer(request))
            except (Unreachable, Refused) as error:
                if not request.repeatable:
                    raise
                await asyncio.sleep(patience.pause_after(error))

    async def save(self, path: str, target: Path) -> Path:
        """Download to a file, which is either complete or absent; returns its path."""
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("wb") as file:
                async with self._http.stream("GET", path) as answer:
                    if not answer.is_success:
                        await answer.aread()
                        raise problem_of(answer)
                    async for piece in answer.aiter_bytes():
                        file.write(piece)
            return part.replace(target)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise broken(self.server, error) from error
        finally:
            part.unlink(missing_ok=True)

    async def events(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """The `progress` snapshots of a stream of events until its `end`; opens it again after a break."""
        patience = Patience()
        while True:
            try:
                async with self._http.stream("GET", path) as answer:
                    if answer.is_success:
                        async for event in httpx2.EventSource(answer):
                            patience.mended()
                            if event.event == "progress":
                                yield cast(dict[str, Any], event.json())
                            elif event.event == "end":
                                return
                        lost: ClientError = Unreachable(self.server.address, BROKE_OFF, stream=True)
                    else:
                        await answer.aread()
                        if answer.status_code not in AWAY:
                            raise problem_of(answer)
                        lost = away(self.server, answer.status_code)
            except (httpx2.HTTPError, httpx2.SSEError, httpx2.InvalidURL, ValueError) as error:
                lost = broken(self.server, error, stream=True)
                lost.__cause__ = error
            await asyncio.sleep(patience.pause_after(lost))

    async def _answer(self, request: Request) -> httpx2.Response:
        try:
            answer = await self._http.request(request.method, request.path, **request.options)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise broken(self.server, error) from error
        if not answer.is_success:
            raise problem_of(answer)
        return answer


def _call(make: Callable[P, Call[T]]) -> Callable[Concatenate["AsyncClient", P], Awaitable[T]]:
    @wraps(make)
    async def method(client: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = make(*args, **kwargs)
        return call.read(await client.request(call.request))

    return method


def _watch(make: Callable[P, Watching[T]]) -> Callable[Concatenate["AsyncClient", P], AsyncIterator[T]]:
    @wraps(make)
    async def method(client: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        watching = make(*args, **kwargs)
        async for event in client.events(watching.path):
            yield watching.read(event)

    return method


def _save(make: Callable[P, Download]) -> Callable[Concatenate["AsyncClient", Path | str, P], Awaitable[Path]]:
    @wraps(make)
    async def method(client: "AsyncClient", target: Path | str, /, *args: P.args, **kwargs: P.kwargs) -> Path:
        return await client.save(make(*args, **kwargs).path, Path(target))

    return method


class AsyncClient(AsyncConnection):
    """A client of one server, with the methods of `vezna.client.Client`."""

    submit_run = _call(calls.submit_run)
    submit_study = _call(calls.submit_study)
    run = _call(calls.run)
    runs = _call(calls.runs)
    study = _call(calls.study)
    cancel_run = _call(calls.cancel_run)
    cancel_study = _call(calls.cancel_study)
    study_comparison = _call(calls.study_comparison)
    compare = _call(calls.compare)
    artifacts = _call(calls.artifacts)
    declare_study = _call(calls.declare_study)
    external_studies = _call(calls.external_studies)
    external_study = _call(calls.external_study)
    open_run = _call(calls.open_run)
    report = _call(calls.report)
    end_run = _call(calls.end_run)
    watch_run = _watch(calls.watch_run)
    watch_study = _watch(calls.watch_study)
    save_artifact = _save(calls.artifact_content)
    save_report = _save(calls.study_report)
    save_table = _save(calls.study_table)
    save_export = _save(calls.export_archive)
