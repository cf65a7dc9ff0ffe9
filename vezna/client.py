"""A client of Vezna's REST API that waits for each answer. `vezna.async_client` has the same for asyncio.

from vezna import Client

with Client("https://vezna.example") as client:  # token: VEZNA_TOKEN
    study = client.submit_study({"name": "BBC", "base_model": "all-MiniLM-L6-v2", ...})
    for progress in client.watch_study(study.id):
        print(progress.done, "of", progress.total)
    print(client.study_comparison(study.id).summary)
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import IO, Any, BinaryIO, Concatenate, ParamSpec, Self, TypeVar, cast

import httpx2

from vezna.errors import BROKE_OFF, ClientError, Refused, Unreachable
from vezna.sending import calls
from vezna.sending.calls import Call, Download, Watching
from vezna.sending.connection import (
    AWAY,
    TIMEOUT,
    UPLOAD_TIMEOUT,
    Patience,
    Request,
    Server,
    away,
    broken,
    json_of,
    key_header,
    new_key,
    problem_of,
)

P = ParamSpec("P")
T = TypeVar("T")


class Connection:
    """Requests to one server, with the errors of `vezna.errors`."""

    def __init__(self, url: str | None = None, *, token: str | None = None, language: str = "") -> None:
        """`url`: by default VEZNA_URL, or this machine. `token`: an API token; by default that of VEZNA_TOKEN or
        VEZNA_TOKEN_FILE. `language`: of the server's sentences (`en`, `bg`). Raises WrongAddress."""
        self.server = Server.of(url, token, language)
        self._http = httpx2.Client(base_url=self.server.url, timeout=TIMEOUT, headers=dict(self.server.headers))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def request(self, request: Request) -> Any:
        """Send a request, and again if its answer was lost and it may be; the JSON of the answer."""
        return self._sent(
            lambda: self._http.request(request.method, request.path, **request.options), repeatable=request.repeatable
        )

    def upload(
        self, path: str, files: Sequence[Path], fields: Mapping[str, str], opened: Callable[[Path], BinaryIO]
    ) -> Any:
        """POST files as a form, each as it is `opened`; they are read as they are sent."""
        headers = key_header(new_key())

        def send() -> httpx2.Response:
            with ExitStack() as stack:
                parts = [("file", (file.name, stack.enter_context(opened(file)))) for file in files]
                return self._http.request(
                    "POST", path, files=parts, data=dict(fields), headers=headers, timeout=UPLOAD_TIMEOUT
                )

        return self._sent(send, repeatable=True)

    def download(self, path: str, target: IO[bytes]) -> None:
        """GET a file in pieces."""
        try:
            with self._http.stream("GET", path) as answer:
                if not answer.is_success:
                    answer.read()
                    raise problem_of(answer)
                for piece in answer.iter_bytes():
                    target.write(piece)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise broken(self.server, error) from error

    def save(self, path: str, target: Path) -> Path:
        """Download to a file, which is either complete or absent; returns its path."""
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("wb") as file:
                self.download(path, file)
            return part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """The `progress` snapshots of a stream of events until its `end`; opens it again after a break."""
        patience = Patience()
        while True:
            try:
                with self._http.stream("GET", path) as answer:
                    if answer.is_success:
                        for event in httpx2.EventSource(answer):
                            patience.mended()
                            if event.event == "progress":
                                yield cast(dict[str, Any], event.json())
                            elif event.event == "end":
                                return
                        lost: ClientError = Unreachable(self.server.address, BROKE_OFF, stream=True)
                    else:
                        answer.read()
                        if answer.status_code not in AWAY:
                            raise problem_of(answer)
                        lost = away(self.server, answer.status_code)
            except (httpx2.HTTPError, httpx2.SSEError, httpx2.InvalidURL, ValueError) as error:
                lost = broken(self.server, error, stream=True)
                lost.__cause__ = error
            time.sleep(patience.pause_after(lost))

    def _sent(self, send: Callable[[], httpx2.Response], *, repeatable: bool) -> Any:
        patience = Patience()
        while True:
            try:
                return json_of(self.server, self._answer(send))
            except (Unreachable, Refused) as error:
                if not repeatable:
                    raise
                time.sleep(patience.pause_after(error))

    def _answer(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        try:
            answer = send()
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise broken(self.server, error) from error
        if not answer.is_success:
            raise problem_of(answer)
        return answer


def _call(make: Callable[P, Call[T]]) -> Callable[Concatenate["Client", P], T]:
    @wraps(make)
    def method(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = make(*args, **kwargs)
        return call.read(client.request(call.request))

    return method


def _watch(make: Callable[P, Watching[T]]) -> Callable[Concatenate["Client", P], Iterator[T]]:
    @wraps(make)
    def method(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        watching = make(*args, **kwargs)
        return map(watching.read, client.events(watching.path))

    return method


def _save(make: Callable[P, Download]) -> Callable[Concatenate["Client", Path | str, P], Path]:
    @wraps(make)
    def method(client: "Client", target: Path | str, /, *args: P.args, **kwargs: P.kwargs) -> Path:
        return client.save(make(*args, **kwargs).path, Path(target))

    return method


class Client(Connection):
    """A client of one server. Its methods take the arguments of `vezna.sending.calls`; those that save a file take the
    file first. A request whose answer was lost is sent again with the same Idempotency-Key, for half a minute."""

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
