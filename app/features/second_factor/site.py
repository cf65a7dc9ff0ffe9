"""The second factor on the web."""

from sqlalchemy.orm import Session

from app.features.second_factor import pages, queries, service
from app.features.second_factor.context import CodePage, FactorButtons, FactorSection
from app.store.tables import UserRow
from app.web.site import Section, Site
from app.words.i18n import marked


def _section(session: Session, user: UserRow) -> FactorSection:
    return FactorSection(user, service.is_on(session, user.id), queries.codes_left(session, user.id))


def _buttons(session: Session) -> FactorButtons:
    return FactorButtons(frozenset(queries.confirmed_users(session)))


SITE = Site(
    pages=(pages.router, pages.other_router),
    account_sections=(Section("safety", "second_factor/section.html", _section),),
    account_done={"factor": marked("The second factor is off.")},
    users_sections=(Section("user", "second_factor/button.html", _buttons, order=10),),
    second_step=lambda onward, waiting: (pages.CODE_PAGE, CodePage(onward, waiting)),
)
