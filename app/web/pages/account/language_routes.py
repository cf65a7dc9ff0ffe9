"""Choosing the language of the pages."""

from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse
from starlette.routing import Match

from app.domain.errors import NotFound
from app.domain.messages import _
from app.services.users import users
from app.web.forms.sent import SentForm
from app.web.http.access import identity_of
from app.web.http.dependencies import Db
from app.web.http.middleware.language import COOKIE
from app.words.i18n import LANGUAGES

router = APIRouter(include_in_schema=False)

HOME = "/studies"
A_YEAR = 365 * 24 * 3600


@router.post("/language")
def choose_language(form: SentForm, request: Request, db: Db) -> RedirectResponse:
    """Show every page in another language from now on: in this browser, and wherever the user logs in."""
    if (chosen := form.get("language", "")) not in LANGUAGES:
        raise NotFound(_("Vezna is not written in %(language)s.", language=chosen[:20]))
    identity = identity_of(request.scope)
    if identity is not None and identity.user_id is not None and identity.language != chosen:
        user_id = identity.user_id
        db.write(lambda session: users.set_language(session, user_id, chosen))
    answer = RedirectResponse(_back(request), status_code=303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, chosen, max_age=A_YEAR, secure=secure, httponly=True, samesite="lax")
    return answer


def _back(request: Request) -> str:
    """The page that has the switch, if it is of this server and can be opened again; a form that was refused cannot."""
    try:
        page = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return HOME
    back = page.path + (f"?{page.query}" if page.query else "")
    if page.netloc != request.headers.get("host", "") or not back.startswith("/") or back.startswith(("//", "/\\")):
        return HOME
    opened = {**request.scope, "method": "GET", "path": page.path}
    readable = any(route.matches(opened)[0] is Match.FULL for route in request.app.routes)
    return back if readable and back.isprintable() else HOME
