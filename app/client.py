"""A client of the REST API, for the command line."""

from collections.abc import Iterator
from typing import Any, cast

import httpx2

from app.domain.errors import Conflict, FieldError, Invalid, NotFound, Unavailable, VeznaError

KINDS: dict[int, type[VeznaError]] = {404: NotFound, 409: Conflict, 503: Unavailable}


class Client:
    """Talks to one server. Its answers are the API's JSON; its errors are those of `domain.errors`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx2.Client(base_url=f"{self.url}/api/v1", timeout=httpx2.Timeout(30.0, read=60.0))

    def get(self, path: str, **query: Any) -> Any:
        """GET below /api/v1."""
        return self._answer("GET", path, params=query)

    def post(self, path: str, body: Any = None) -> Any:
        """POST below /api/v1."""
        return self._answer("POST", path, json=body)

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """The `progress` snapshots of a stream of events, until it ends; after a break it goes on by itself."""
        failures = 0
        while True:
            try:
                with self._http.stream("GET", path) as answer:
                    if not answer.is_success:
                        answer.read()
                        raise _error(answer)
                    for event in httpx2.EventSource(answer):
                        failures = 0
                        if event.event == "progress":
                            yield cast(dict[str, Any], event.json())
                    return
            except httpx2.TransportError as error:
                failures += 1
                if failures > 3:
                    raise Unavailable(f"the server at {self.url} no longer answers: {error}") from error

    def _answer(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, path, **options)
        except httpx2.TransportError as error:
            raise Unavailable(
                f"No server answers at {self.url} ({error}). Start one with: vezna up, or name another with VEZNA_URL."
            ) from error
        if answer.is_success:
            return answer.json()
        raise _error(answer)


def _error(answer: httpx2.Response) -> VeznaError:
    try:
        problem = answer.json()
    except ValueError:
        return VeznaError(f"the server answered {answer.status_code}")
    fields = [FieldError(e["path"], e["message"], e["remedy"]) for e in problem.get("errors", [])]
    detail = problem.get("detail", "")
    if answer.status_code == 422:
        return Invalid(detail, fields)
    return KINDS.get(answer.status_code, VeznaError)(detail)
