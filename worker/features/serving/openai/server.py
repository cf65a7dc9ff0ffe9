"""The OpenAI-compatible endpoint of `vezna serve`: models, chat completions and completions, whole or streamed.

A model is a run (`run-12`) or the base model of the first run, by its name. On loopback a request needs no token, but a
page of another site may send none; at any other address it needs an API token of Vezna with the scope `read`, and the
runs that are private to other users do not exist.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from secrets import randbits
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.domain.accounts.ownership import Viewer, viewer_of
from app.domain.accounts.policy import Scope
from app.domain.errors import Invalid, TooMany, VeznaError
from app.features.serving.rules import InferenceRequest, Input, Subject
from app.features.serving.services import inference
from app.services.users import tokens
from app.services.users.sessions import Visitor
from app.settings import LOOPBACK
from app.store.database.session import Database
from app.store.runs import queries as runs
from worker.features.serving.openai.answers import Answer, Json
from worker.features.serving.openai.queue import Answering
from worker.features.serving.openai.schemas import BadRequest, ChatRequest, CompletionRequest

OWNER = "vezna"
CLIENT_LEFT = 499
"""Status of an answer that reaches no client, as nginx logs it."""
MOST_BODY_BYTES = 16 << 20
"""100 messages of 100,000 characters."""
KINDS = {401: "authentication_error", 403: "permission_error", 404: "invalid_request_error", 429: "rate_limit_error",
         503: "server_error", 500: "server_error"}  # fmt: skip


def create(models: Mapping[str, Subject], answering: Answering, database: Database, *, open_to_all: bool) -> FastAPI:
    """The application. `open_to_all`: only this machine reaches it, so requests need no token."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        answering.close()

    async def admitted(request: Request) -> None:
        """Note the models of the client. Raise BadRequest for one that may not use the server."""
        if open_to_all:
            _local(request)
            request.state.models = models
        else:
            viewer = await run_in_threadpool(_with_token, request, database)
            request.state.models = await run_in_threadpool(_visible, models, viewer, database)

    app = FastAPI(title="Vezna", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan,
                  max_body_size=MOST_BODY_BYTES,
                  dependencies=[Depends(admitted)])  # fmt: skip
    _explain_errors(app)

    @app.get("/v1/models")
    def list_models(request: Request) -> Json:
        return {"object": "list", "data": [_model(name) for name in request.state.models]}

    @app.get("/v1/models/{name:path}")
    def get_model(name: str, request: Request) -> Json:
        _subject(request.state.models, name)
        return _model(name)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        subject = _subject(request.state.models, body.model)
        conversation: Input = [turn.message() for turn in body.messages]
        top = body.top_logprobs or 0 if body.logprobs else 0
        answer = Answer("chat", body.model, body.logprobs, body.names)
        return await answered(request, body, subject, conversation, answer, top, body.offered)

    @app.post("/v1/completions")
    async def complete(body: CompletionRequest, request: Request) -> Response:
        subject = _subject(request.state.models, body.model)
        answer = Answer("completion", body.model, body.logprobs is not None)
        return await answered(request, body, subject, body.text, answer, body.logprobs or 0)

    async def answered(
        request: Request, body: ChatRequest | CompletionRequest, subject: Subject, prompt: Input, answer: Answer,
        top: int, tools: str | None = None,
    ) -> Response:  # fmt: skip
        decoding = body.decoding(body.new_tokens, randbits(31))
        work = inference.request(
            "compare", [subject], [prompt], decoding=decoding, top=top, whole_context=True, tools=tools
        )
        if body.stream:
            usage = bool(body.stream_options and body.stream_options.include_usage)
            return await _streamed(_events(request, answering, work), answer, usage)
        tokens, finished = [], {}
        async with aclosing(_events(request, answering, work)) as events:
            async for event in events:
                if event["type"] == "token":
                    tokens.append(event)
                elif event["type"] == "form":
                    answer.read_as(event)
                else:
                    finished = event
        return JSONResponse(answer.whole(tokens, finished))

    return app


async def _events(request: Request, answering: Answering, work: InferenceRequest) -> AsyncGenerator[Json]:
    """The form of an answer, its tokens and its end. Raises ClientDisconnect soon after the client has left."""
    async with aclosing(answering.events(work)) as events:
        async for event in events:
            if await request.is_disconnected():
                raise ClientDisconnect
            if event["type"] in ("form", "token", "finished"):
                yield event


async def _streamed(events: AsyncGenerator[Json], answer: Answer, usage: bool) -> Response:
    """A stream, which begins once the model answers, so that an error before has a status of its own."""
    first = await anext(events, None)

    async def lines() -> AsyncGenerator[str]:
        event: Json | None = first
        async with aclosing(events):
            try:
                while event is not None:
                    if event["type"] == "token":
                        yield _line(answer.piece(event))
                    elif event["type"] == "form":
                        answer.read_as(event)
                    elif event["type"] == "finished":
                        yield _line(answer.last(event["finish"]))
                        if usage:
                            yield _line(answer.usage(event))
                    event = await anext(events, None)
            except ClientDisconnect:
                return
            except (VeznaError, BadRequest) as error:
                yield _line(_body(error.message, 503))
                return
        yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _line(body: Json) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}


def _subject(models: Mapping[str, Subject], name: str) -> Subject:
    if name not in models:
        names = ", ".join(models)
        raise BadRequest(f"There is no model {name!r}. Choose from: {names}", "model", "model_not_found", 404)
    return models[name]


def _visible(models: Mapping[str, Subject], viewer: Viewer | None, database: Database) -> Mapping[str, Subject]:
    """The models of runs that are not private to other users."""
    with database.reading() as session:
        found = {subject.run_id: runs.find(session, subject.run_id) for subject in models.values()}
    hidden = {run_id for run_id, run in found.items() if viewer and run and not viewer.may_see(run.private_to)}
    return {name: subject for name, subject in models.items() if subject.run_id not in hidden}


def _local(request: Request) -> None:
    """Refuse what a page of another site sends through a browser of this machine."""
    host = request.url.hostname or ""
    origin = request.headers.get("origin")
    known = {name.strip("[]") for name in LOOPBACK}
    if host.strip("[]") not in known or (origin and _host_of(origin) not in known):
        raise BadRequest("This server answers programs of this machine only.", code="forbidden", status=403)


def _host_of(origin: str) -> str:
    return origin.rpartition("://")[2].rpartition(":")[0] or origin.rpartition("://")[2]


def _with_token(request: Request, database: Database) -> Viewer | None:
    kind, _space, token = request.headers.get("authorization", "").partition(" ")
    visitor = Visitor.of(request.client.host if request.client else "", request.headers.get("user-agent", ""))
    identity = tokens.authenticate(database, token.strip(), visitor) if kind.lower() == "bearer" else None
    if identity is None:
        raise BadRequest("Send an API token of Vezna as the API key.", code="invalid_api_key", status=401)
    if not identity.may(Scope.READ):
        raise BadRequest(identity.refusal(Scope.READ), code="insufficient_scope", status=403)
    return viewer_of(identity)


def _explain_errors(app: FastAPI) -> None:
    """Answer every error in OpenAI's form."""

    def on(kind: type[Exception], answer: Callable[[Any], JSONResponse]) -> None:
        async def handle(_request: Request, error: Exception) -> JSONResponse:
            return answer(error)

        app.add_exception_handler(kind, handle)

    on(BadRequest, lambda error: _error(error.message, error.status, error.param, error.code))
    on(VeznaError, _refused)
    on(ClientDisconnect, lambda _error_: _error("The client has left.", CLIENT_LEFT))
    on(RequestValidationError, _malformed)
    on(HTTPException, lambda error: _error(str(error.detail), error.status_code))
    on(Exception, lambda _error_: _error("The server failed; its log says why.", 500))


def _refused(error: VeznaError) -> JSONResponse:
    if isinstance(error, Invalid):
        long = any("tokens" in field.message for field in error.fields)
        return _error(error.message, 400, "messages", "context_length_exceeded" if long else None)
    return _error(error.message, 429 if isinstance(error, TooMany) else 503)


def _malformed(error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"] if part != "body")
    return _error(f"{path}: {first['msg']}" if path else first["msg"], 400, path or None, "invalid_value")


def _error(message: str, status: int, param: str | None = None, code: str | None = None) -> JSONResponse:
    return JSONResponse(_body(message, status, param, code), status)


def _body(message: str, status: int, param: str | None = None, code: str | None = None) -> Json:
    kind = KINDS.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
