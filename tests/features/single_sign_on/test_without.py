"""Without the feature there is no button of a provider, and what one said counts for nothing."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from app.domain.accounts.policy import Role
from app.domain.errors import Unauthenticated
from app.feature import VARIABLE
from app.features import FEATURES
from app.features.single_sign_on.tables import ExternalIdentityRow
from app.services.users import login
from app.store.users import queries as users
from tests.support.rows.accounts import installed


def test_pages_and_routes_are_gone(tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = {
        "openid_issuer": "https://id.example.org",
        "openid_client_id": "vezna",
        "openid_client_secret": SecretStr("hidden words of the client"),
        "openid_name": "Example ID",
    }
    monkeypatch.setenv(VARIABLE, ",".join(name for name in FEATURES if name != "single_sign_on"))
    with installed(tmp_path, migrated_file, **provider) as made:
        own = made.ids[Role.MEMBER]
        with made.database.transaction() as session:
            session.add(ExternalIdentityRow(issuer="https://id.example.org", subject="u1", user_id=own))
        shown = made.anonymous().get("/login")
        assert shown.status_code == 200 and 'id="sign-in"' in shown.text and "Example ID" not in shown.text
        assert made.anonymous().get("/login/openid").status_code == 404
        admin = made.browser(Role.ADMIN)
        listed = admin.get("/users")
        assert listed.status_code == 200 and "Remove identity" not in listed.text
        assert admin.post(f"/users/{own}/identity/remove").status_code == 404
        with made.database.transaction() as session, pytest.raises(Unauthenticated):
            login.accept_profile(session, made.settings, users.get(session, own, lock=True), {"issuer": "x"})
