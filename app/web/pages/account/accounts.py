"""What the routes of accounts share: that there are accounts, and the user."""

from typing import Annotated

from fastapi import Depends

from app.domain.errors import NotFound
from app.domain.messages import _
from app.web.http.dependencies import Config, User

NO_ACCOUNTS = _("This server runs for a single user, without accounts. Set VEZNA_LOGIN=required to have them.")


def with_login(settings: Config) -> None:
    """Raise NotFound where the server has no login."""
    if not settings.login_required:
        raise NotFound(NO_ACCOUNTS)


def own_id(user: User) -> int:
    """The id of the user of the request. Raises NotFound where the server has no login."""
    if user.user_id is None:
        raise NotFound(NO_ACCOUNTS)
    return user.user_id


WithLogin = Depends(with_login)
OwnId = Annotated[int, Depends(own_id)]
