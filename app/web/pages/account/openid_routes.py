"""Single sign-on: to the identity provider and back."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.domain.errors import NotFound, Unauthenticated, Unavailable
from app.domain.messages import _
from app.services.accounts import login, openid, second_factor
from app.services.accounts.openid_provider import REFUSED, Provider
from app.settings import Settings
from app.web.http.access import identity_of, set_cookie, visitor_of
from app.web.http.dependencies import Config, Db
from app.web.pages.account.accounts import WithLogin
from app.web.pages.account.context import CodePage, LoginPage
from app.web.pages.account.login_routes import HOME, openid_name, own_path
from app.web.templating import RenderSignedOut

router = APIRouter(prefix="/login/openid", include_in_schema=False, dependencies=[WithLogin])

COOKIE = "vezna_openid"
"""Has the state of the login that this browser began."""
BACK = "/login/openid/back"
Text = Annotated[str, Query(max_length=4000)]


def provider(request: Request, settings: Config) -> Provider:
    """The provider, with its description kept. Raises NotFound if none is set."""
    if not settings.openid_issuer:
        raise NotFound(_("This server has no single sign-on. Set VEZNA_OPENID_ISSUER to have it."))
    state = request.app.state
    if not hasattr(state, "openid"):
        state.openid = Provider(settings)
    found: Provider = state.openid
    return found


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
    secure = request.url.scheme == "https"
    seconds = int(openid.WAITS.total_seconds())
    answer.set_cookie(COOKIE, state, max_age=seconds, path=BACK, secure=secure, httponly=True, samesite="lax")
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
    kept, visitor, waiting, secret = request.cookies.get(COOKIE, ""), visitor_of(request), "", ""
    try:
        if iss and iss.rstrip("/") != provider.issuer:  # RFC 9207
            raise Unauthenticated(REFUSED)
        profile, back = openid.finish(db, provider, settings, _callback(request), state, kept, code)
        with db.transaction() as session:
            user = openid.enter(session, settings, profile)
            if second_factor.is_on(session, user.id):
                waiting = second_factor.wait_for_code(session, user)
            else:
                secret = login.begin(session, user, visitor, identity_of(request.scope), by="single sign-on")
    except (Unauthenticated, Unavailable) as error:
        return _refused(render, settings, error.message, 503 if isinstance(error, Unavailable) else 422)
    answer: Response = RedirectResponse(back, 303)
    if waiting:
        answer = render.page("account/code.html", CodePage(back, waiting))
    else:
        set_cookie(request, answer, secret)
    answer.delete_cookie(COOKIE, path=BACK)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _callback(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}{BACK}"


def _refused(render: RenderSignedOut, settings: Settings, why: str, status: int) -> Response:
    answer = render.page(
        "account/login.html", LoginPage(HOME, refused=why, openid=openid_name(settings)), status=status
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer
