"""Authentication and authorization of requests, before every route, so that no route can be forgotten.

Where login is required, a path is closed unless `PUBLIC` names it. A request is authenticated by an API token in the
header `Authorization: Bearer`, else by the cookie of a browser session; a request with a token never uses its cookie.

    path                     needs
    PUBLIC, LINKS, /static/  nothing; at the port of the probes, if they have one, no path needs anything
    ACCOUNT                  a session, of any role (only `OF_TOKENS` also take a token)
    LAB                      the scope read, also to answer questions
    ADMIN                    the scope admin; to change something a session (but for `BY_TOKEN`)
    REMOVABLE                to delete: a session of any role, or the scope run of a token
    PREDICT                  the scope read: it changes nothing, and with that scope the weights can be downloaded
    AGENTS                   the scope read; what a tool needs is decided by the requests that it makes
    /v1/                     as everything else: OpenAI's client sends its key as an API token
    everything else          the scope read for GET and HEAD, otherwise the scope run

What a scope is, and which role has it, is in `app.domain.accounts.policy`.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal
from urllib.parse import SplitResult, urlencode, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import URL, Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.accounts import policy
from app.domain.accounts.audit import Actor
from app.domain.accounts.policy import SINGLE_USER, Identity
from app.domain.errors import Forbidden, Unauthenticated, VeznaError
from app.domain.messages import _
from app.services.users import audit, sessions, tokens
from app.services.users.sessions import Visitor
from app.store.database.session import Database
from app.web.http.csrf import session_cookie
from app.web.http.errors import AGENTS, DATABASE_AWAY, answer_to, database_away, wants_json
from app.web.http.files.checked_stream import CheckedStream
from app.web.http.middleware import language
from app.web.http.middleware.security import SAFE_METHODS

PUBLIC = (
    "/livez",
    "/readyz",
    "/login",
    "/login/code",
    "/login/openid",
    "/login/openid/back",
    "/language",
    "/api/v1/login",
    "/api/v1/receipt-key",
)
LOGINS = ("/login", "/login/openid/back")
"""Public pages that are given the browser's session: a login replaces it."""
LINKS = ("/first-admin", "/password")
"""What precedes the secret of a link that works once."""
ACCOUNT = ("/logout", "/account", "/api/v1/me")
OF_TOKENS = ("/api/v1/me",)
AUTOMATIC = "Vezna-Automatic"
"""Header of a request that a page sends by itself, which does not count as use of the session."""
ADMIN = ("/users", "/audit", "/api/v1/audit", "/api/v1/quotas", "/webhooks", "/api/v1/webhooks")
BY_TOKEN = ("/api/v1/quotas", "/api/v1/webhooks")
"""What an admin's token may change too: limits give no access, and webhooks reach listed hosts only."""
REMOVABLE = "/api/v1/hub-token"
"""What users delete whatever their role has become."""
PREDICT = re.compile(r"/api/v1/runs/[^/]+/predict|/playground")
LAB = ("/lab",)
LAB_RUNS = ("/lab/sample", "/lab/studies", "/lab/classes")
"""What learners start there, and classes that teachers make; the rest concerns a learner alone."""

Need = Literal["nothing", "account", "removal"] | policy.Scope


def needed(method: str, path: str) -> Need:
    above, _slash, last = path.rpartition("/")
    if path in PUBLIC or path.startswith("/static/") or (above in LINKS and last):
        return "nothing"
    if _is_at(path, ACCOUNT):
        return "account"
    if _is_at(path, ADMIN):
        return policy.Scope.ADMIN
    if method == "DELETE" and path == REMOVABLE:
        return "removal"
    learns = _is_at(path, LAB) and not _is_at(path, LAB_RUNS)
    read = method in SAFE_METHODS or PREDICT.fullmatch(path) or path == AGENTS or learns
    return policy.Scope.READ if read else policy.Scope.RUN


def _is_at(path: str, places: tuple[str, ...]) -> bool:
    """Whether a path is one of the places or below it. By prefix, since a route may match what a regular expression
    does not (`.` is no newline)."""
    return any(path == place or path.startswith(f"{place}/") for place in places)


def _is_stream(path: str) -> bool:
    return path.startswith("/api/v1/") and path.endswith("/events")


def identity_of(scope: Mapping[str, object]) -> Identity | None:
    """The user of a request; None for an anonymous one."""
    state = scope.get("state")
    found = state.get("identity") if isinstance(state, dict) else None
    return found if isinstance(found, Identity) else None


def visitor_of(request: Request) -> Visitor:
    return Visitor.of(request.client.host if request.client else "", request.headers.get("user-agent", ""))


def actor_of(identity: Identity | None, visitor: Visitor) -> Actor:
    if identity is None:
        return Actor("visitor", address=visitor.address, user_agent=visitor.user_agent)
    used: tuple[Literal["token", "session", "single user"], int | None] = ("single user", None)
    if identity.token_id is not None:
        used = "token", identity.token_id
    elif identity.session_id is not None:
        used = "session", identity.session_id
    return Actor(used[0], identity.user_id, identity.email, used[1], visitor.address, visitor.user_agent)


def set_cookie(request: Request, answer: Response, secret: str) -> None:
    """Have the browser keep a session, for as long as it lasts at most."""
    answer.set_cookie(
        session_cookie(request),
        secret,
        max_age=int(sessions.LONGEST.total_seconds()),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )


def drop_cookie(request: Request, answer: Response) -> None:
    secure = request.url.scheme == "https"
    answer.delete_cookie(session_cookie(request), path="/", secure=secure, httponly=True, samesite="lax")


class Access:
    """Authenticates requests, and refuses those that may not do what they ask for."""

    def __init__(
        self, app: ASGIApp, database: Callable[[], Database], required: bool, open_port: int | None = None
    ) -> None:
        """`open_port`: that of the probes, which `MetricsPort` lets nothing else through."""
        self.app, self.open_port = app, open_port
        self.database, self.required = database, required

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on with the user's identity, or answer 401, 403, or with the login page."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            identity = await self._admitted(request)
        except VeznaError as error:
            await _refusal(request, error)(scope, receive, send)
            return
        except DATABASE_AWAY as error:
            await database_away(request, error)(scope, receive, send)
            return
        scope.setdefault("state", {})["identity"] = identity
        audit.act_as(actor_of(identity, visitor_of(request)))
        if self.required and _is_stream(scope["path"]):
            again = partial(self.identify, request, used=False)
            await CheckedStream(self.app, scope, identity, again).run(receive, send)
            return
        await self.app(scope, receive, send)

    async def _admitted(self, request: Request) -> Identity | None:
        """The user of a request that may do what it asks for; None for an anonymous one. Raises Unauthenticated and
        Forbidden."""
        if not self.required:
            return SINGLE_USER
        path = request.scope["path"]
        need = "nothing" if self._is_probe(request.scope) else needed(request.method, path)
        if need == "nothing" and request.method in SAFE_METHODS and path not in LOGINS:
            return None
        used = AUTOMATIC not in request.headers and not _is_stream(path)
        identity = await self.identify(request, used=used)
        language.of_user(identity, path)
        if need == "nothing":
            return identity
        if identity is None:
            raise Unauthenticated(
                _("This needs a login. A program sends an API token in the header Authorization: Bearer vezna_….")
            )
        if need == "account":
            if identity.token_id is not None and not _is_at(path, OF_TOKENS):
                raise Forbidden(_("An API token cannot change an account. Log in with a browser."))
        elif need == "removal":
            if identity.token_id is not None and not identity.may(policy.Scope.RUN):
                raise Forbidden(identity.refusal(policy.Scope.RUN))
        elif need is policy.Scope.ADMIN and identity.token_id is not None and not self._by_token(request):
            raise Forbidden(_("An API token cannot change users. Log in with a browser, or use vezna user."))
        elif not identity.may(need):
            raise Forbidden(identity.refusal(need))
        if identity.session_id is not None and request.method not in SAFE_METHODS and not _is_own_page(request.headers):
            raise Forbidden(_("A cookie is accepted from this server's own pages alone. Send an API token instead."))
        return identity

    def _by_token(self, request: Request) -> bool:
        return request.method in SAFE_METHODS or _is_at(request.scope["path"], BY_TOKEN)

    def _is_probe(self, scope: Scope) -> bool:
        server = scope.get("server")
        return self.open_port is not None and server is not None and server[1] == self.open_port

    async def identify(self, request: Request, *, used: bool = True) -> Identity | None:
        """The user of a request by its token, else by its cookie; None if neither is valid. `used`: whether this keeps
        a session from ending by disuse."""
        visitor = visitor_of(request)
        kind, _space, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":  # `Basic` is the password of a proxy, which a browser sends beside a cookie
            return await run_in_threadpool(tokens.authenticate, self.database(), token.strip(), visitor)
        secret = request.cookies.get(session_cookie(request))
        if secret is None:
            return None
        return await run_in_threadpool(sessions.authenticate, self.database(), secret, visitor, used=used)


def _is_own_page(headers: Headers) -> bool:
    """Whether a browser says that a page of this server sent the request. `SameOrigin` has compared what it says."""
    return "sec-fetch-site" in headers or "origin" in headers


def _refusal(request: Request, error: VeznaError) -> Response:
    """A page that is opened without login becomes the login page, which leads back to it."""
    if not isinstance(error, Unauthenticated) or wants_json(request):
        return answer_to(request, error)
    if "hx-request" in request.headers:  # htmx would swap the login page into the old page
        return Response(status_code=401, headers={"HX-Redirect": _login(_page_of(request))})
    return RedirectResponse(_login(request.url if request.method in SAFE_METHODS else None), 303)


def _login(back: SplitResult | URL | None) -> str:
    """The address of the login that leads to a page of this server."""
    if back is None:
        return "/login"
    return "/login?" + urlencode({"next": back.path + (f"?{back.query}" if back.query else "")})


def _page_of(request: Request) -> SplitResult | None:
    """The page on which htmx made a request, if it is of this server."""
    try:
        page = urlsplit(request.headers.get("hx-current-url", ""))
    except ValueError:
        return None
    return page if page.netloc == request.headers.get("host", "") and page.path else None
