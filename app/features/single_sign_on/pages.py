"""Single sign-on: to the identity provider and back."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.domain.errors import NotFound, Unauthenticated, Unavailable
from app.domain.messages import _
from app.features.single_sign_on.rules import Profile
from app.features.single_sign_on.services import openid
from app.features.single_sign_on.services.provider import REFUSED, Provider
from app.services.users import audit
from app.settings import Settings
from app.store.users import queries as users
from app.web.http.access import actor_of, identity_of, set_cookie, visitor_of
from app.web.http.dependencies import Config, Db, RowId
from app.web.pages.account.accounts import WithLogin
from app.web.pages.account.login_routes import HOME, login_page, own_path, second_step, uncached
from app.web.templating import RenderSignedOut

router = APIRouter(prefix="/login/openid", include_in_schema=False, dependencies=[WithLogin])
users_router = APIRouter(prefix="/users", include_in_schema=False, dependencies=[WithLogin])

COOKIE, SECURE_COOKIE = "vezna_openid", "__Host-vezna_openid"
"""Has the state of the login that this browser began. Another host of the domain cannot set the second one, which
browsers accept over TLS alone, and for the path / alone."""
BACK = "/login/openid/back"
Text = Annotated[str, Query(max_length=4000)]


def provider(request: Request, settings: Config) -> Provider:
    """The provider, with its description kept. Raises NotFound if none is set."""
    if not settings.openid_issuer:
        raise NotFound(_("This server has no single sign-on. Set VEZNA_OPENID_ISSUER to have it."))
    state = request.app.state
    if not hasattr(state, "openid"):
        state.openid = Provider(settings)
    kept: Provider = state.openid
    return kept


IdentityProvider = Annotated[Provider, Depends(provider)]


@router.get("")
def begin(
    request: Request,
    db: Db,
    settings: Config,
    provider: IdentityProvider,
    render: RenderSignedOut,
    next: Text = HOME,
) -> Response:
    """Send the browser to the provider."""
    try:
        address, state = openid.begin(db, provider, _callback(request), own_path(next)[:2000])
    except Unavailable as error:
        return _refused(render, settings, error.message, 503)
    answer = RedirectResponse(address, 303)
    seconds = int(openid.WAITS.total_seconds())
    answer.set_cookie(max_age=seconds, value=state, **_cookie(request))
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.get("/back")
def finish(
    request: Request,
    db: Db,
    settings: Config,
    provider: IdentityProvider,
    render: RenderSignedOut,
    state: Text = "",
    code: Text = "",
    iss: Text = "",
) -> Response:
    """Begin a session of the user that the provider confirms."""
    kept, visitor = request.cookies.get(_cookie(request)["key"], ""), visitor_of(request)
    profile: Profile | None = None
    audit.act_as(actor_of(None, visitor))  # not the user of the session that ends
    try:
        if iss and iss != provider.issuer:  # RFC 9207
            raise Unauthenticated(REFUSED)
        profile, back = openid.finish(db, provider, settings, _callback(request), state, kept, code)
        with db.transaction() as session:
            secret, waiting = openid.enter(session, settings, profile, visitor, identity_of(request.scope))
    except Unauthenticated as error:
        openid.record_refusal(db, profile, visitor)
        return _refused(render, settings, error.message, 422)
    except Unavailable as error:
        return _refused(render, settings, error.message, 503)
    answer: Response = RedirectResponse(back, 303)
    if waiting:
        answer = second_step(render, back, waiting)
    else:
        set_cookie(request, answer, secret)
    answer.delete_cookie(**_cookie(request))
    answer.headers["Cache-Control"] = "no-store"
    return answer


@users_router.post("/{user_id}/identity/remove")
def remove_identity(db: Db, user_id: RowId) -> Response:
    """Remove a user's identity at the provider; the next login there joins one again."""
    with db.transaction() as session:
        openid.remove_identities(session, users.get(session, user_id, lock=True))
    return RedirectResponse("/users", 303)


def _cookie(request: Request) -> dict[str, Any]:
    """Name and attributes of the cookie."""
    secure = request.url.scheme == "https"
    name = SECURE_COOKIE if secure else COOKIE
    return {"key": name, "path": "/", "secure": secure, "httponly": True, "samesite": "lax"}


def _callback(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}{BACK}"


def _refused(render: RenderSignedOut, settings: Settings, why: str, status: int) -> Response:
    return uncached(render.page("account/login.html", login_page(settings, HOME, refused=why), status=status))
