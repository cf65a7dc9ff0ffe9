"""Accounts: what roles and tokens permit, addresses, and how a client is recognised."""

import pytest
from pydantic import ValidationError

from app.domain.accounts import credentials
from app.domain.accounts.clients import network_of
from app.domain.accounts.policy import SCOPES, SINGLE_USER, Identity, Role, Scope, of_token
from app.domain.accounts.users import NewUser


def identity(role: Role, *scopes: Scope, token: bool = True) -> Identity:
    return Identity(1, "ada@example.org", "", role, frozenset(scopes), token_id=1 if token else None)


def test_each_role_has_the_scopes_of_the_one_below_it() -> None:
    assert SCOPES[Role.VIEWER] < SCOPES[Role.MEMBER] < SCOPES[Role.ADMIN] == frozenset(Scope)


def test_a_token_has_no_scope_that_its_users_role_has_lost() -> None:
    assert of_token(Role.VIEWER, [Scope.READ, Scope.RUN]) == {Scope.READ}


def test_a_refusal_names_the_missing_scope_of_a_token_or_the_role_that_has_it() -> None:
    assert "lacks the scope run" in identity(Role.MEMBER, Scope.READ).refusal(Scope.RUN)
    assert "needs member" in identity(Role.VIEWER, Scope.READ).refusal(Scope.RUN)
    assert "needs admin" in identity(Role.MEMBER, token=False).refusal(Scope.ADMIN)


def test_a_single_user_may_do_everything_and_owns_like_before() -> None:
    assert all(SINGLE_USER.may(scope) for scope in Scope)
    assert SINGLE_USER.owner == "" != identity(Role.ADMIN).owner


@pytest.mark.parametrize("email", ["", "ada", "a b@example.org", "@example.org", "ada@", "a@b@c", f"{'a' * 250}@b.org"])
def test_what_is_not_an_email_address_is_refused(email: str) -> None:
    with pytest.raises(ValidationError, match="not an e-mail address"):
        NewUser(email=email)


def test_an_email_address_belongs_to_one_account_however_it_is_typed() -> None:
    assert NewUser(email=" Ada@Example.org ").email == "ada@example.org"


def test_a_token_is_found_by_secret_scanners_and_its_hint_keeps_the_rest_secret() -> None:
    token = credentials.new_token()
    assert token.startswith("vezna_") and credentials.is_token(token)
    assert credentials.hint(token) == token[:10]
    assert credentials.digest(token) != credentials.digest(credentials.new_token())
    assert not credentials.is_token(token[:-1]) and not credentials.is_token("vezna_" + "é" * 43)


@pytest.mark.parametrize(
    ("host", "network", "loopback"),
    [
        ("192.0.2.1", "192.0.2.1", False),
        ("192.0.2.1:4711", "192.0.2.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "::/64", True),
        ("::ffff:192.0.2.1", "192.0.2.1", False),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64", False),
        ("[2001:db8:0:1::9]:4711", "2001:db8:0:1::/64", False),
        ("fe80::1%eth0", "fe80::/64", False),
        ("unknown", "unknown", False),
        ("x" * 100, "x" * 64, False),
        ("", "", False),
    ],
)
def test_a_client_is_its_address_or_its_network(host: str, network: str, loopback: bool) -> None:
    assert network_of(host) == (network, loopback)
