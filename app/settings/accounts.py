"""Settings of accounts: the first admin, the audit log, stored secrets, and single sign-on with OpenID Connect."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from app.domain.accounts.audit import LEAST_DAYS
from app.domain.accounts.policy import Role
from app.domain.messages import _
from app.settings.values import is_safe_url, listed


class AccountSettings(BaseSettings):
    """Settings of accounts, a part of `Settings`."""

    audit_days: int = Field(default=365, ge=LEAST_DAYS, le=36_500)
    """Days for which the audit log keeps its entries."""
    hub_namespaces: Annotated[list[str], NoDecode, BeforeValidator(listed)] = Field(default_factory=list)
    """Users and organizations of the hub to whose repositories exports may be pushed (as `model_roots`); empty permits
    no push where login is required, and every one where it is not."""
    admin_email: str = ""
    """E-mail address of the first admin, created at the first start together with `admin_password`; without them the
    server's log has a link that creates it."""
    admin_password: SecretStr = SecretStr("")
    """Password of the first admin."""
    encryption_key: SecretStr = SecretStr("")
    """Keys that encrypt stored secrets, one a line; the first encrypts, each decrypts. Empty: `home`/secrets.key."""
    first_admin_link: bool = True
    """Whether the server's log has that link. `vezna up` prints it in the terminal instead."""

    openid_issuer: str = ""
    """Issuer of single sign-on (OpenID Connect), such as `https://id.example.org`; empty: there is none."""
    openid_client_id: str = ""
    """Client id of this server at the issuer."""
    openid_client_secret: SecretStr = SecretStr("")
    """Secret of the client."""
    openid_name: str = ""
    """Name of the issuer on the page of the login."""
    openid_role_claim: str = ""
    """Claim of the ID token that holds roles or groups, such as `groups` or `realm_access.roles`."""
    openid_roles: Annotated[list[str], NoDecode, BeforeValidator(listed)] = Field(default_factory=list)
    """Roles by values of the claim: `vezna-admins=admin` (as `model_roots`)."""
    openid_default_role: Literal["", "viewer", "member"] = ""
    """Role of a user to whom no value gives one; empty refuses the login."""

    @field_validator("hub_namespaces")
    @classmethod
    def _hub_namespaces_are_names(cls, names: list[str]) -> list[str]:
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", name):
                raise ValueError(
                    _("%(name)s is no user or organization of the hub: write my-organization, without a /", name=name)
                )
        return names

    @field_validator("openid_issuer")
    @classmethod
    def _issuer_is_safe(cls, issuer: str) -> str:
        parts = urlsplit(issuer)
        if issuer and (not is_safe_url(issuer) or parts.query or parts.fragment or parts.username is not None):
            raise ValueError(
                _("this is not the address of an issuer: write https://id.example.org, as it writes itself")
            )
        return issuer

    @field_validator("openid_roles")
    @classmethod
    def _roles_are_known(cls, roles: list[str]) -> list[str]:
        for pair in roles:
            if pair.rpartition("=")[2] not in list(Role) or not pair.rpartition("=")[0]:
                raise ValueError(
                    _("%(pair)s gives no role: write VALUE=viewer, VALUE=member or VALUE=admin", pair=pair)
                )
        return roles

    @model_validator(mode="after")
    def _client_is_complete(self) -> Self:
        if self.openid_issuer and not (self.openid_client_id and self.openid_client_secret.get_secret_value()):
            raise ValueError(_("VEZNA_OPENID_ISSUER needs VEZNA_OPENID_CLIENT_ID and VEZNA_OPENID_CLIENT_SECRET_FILE"))
        if self.openid_roles and not self.openid_role_claim:
            raise ValueError(
                _("VEZNA_OPENID_ROLES needs VEZNA_OPENID_ROLE_CLAIM, which names the claim with the values")
            )
        return self

    @property
    def openid_role_values(self) -> list[tuple[str, Role]]:
        """Values of the claim, each with its role."""
        return [(pair.rpartition("=")[0], Role(pair.rpartition("=")[2])) for pair in self.openid_roles]

    @property
    def default_openid_role(self) -> Role | None:
        """Role of a user to whom no value gives one."""
        return Role(self.openid_default_role) if self.openid_default_role else None
