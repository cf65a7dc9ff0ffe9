"""The identity provider of single sign-on (OpenID Connect Core 1.0): its description, keys and tokens.

Only the issuer of `VEZNA_OPENID_ISSUER` is called, and addresses that its own description names; those have to be
https, or of this machine. An ID token counts if its signature is by one of the provider's keys, with an asymmetric
algorithm, and issuer, audience, times and nonce are right.
"""

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from app.domain.errors import Unauthenticated, Unavailable
from app.domain.messages import _
from app.settings import Settings
from app.settings.values import is_safe_url

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures by a key that the provider alone has: neither `none` nor HS256, whose key is the client's secret."""
DESCRIPTION = "/.well-known/openid-configuration"
KEPT_SECONDS = 600.0
TIMEOUT = httpx2.Timeout(10.0)
LEEWAY_SECONDS = 60
SCOPE = "openid email profile"
REFUSED = _("The identity provider did not confirm this login. Begin again.")


@dataclass(frozen=True)
class Endpoints:
    """What the provider's description says."""

    authorization: str
    token: str
    keys: str


class Provider:
    """The provider of an installation."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.issuer = settings.openid_issuer
        """As the provider writes it: also with a "/" at its end."""
        self._endpoints: tuple[float, Endpoints] | None = None

    def address(self, callback: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser logs in. Raises Unavailable."""
        query = {
            "response_type": "code",
            "client_id": self._settings.openid_client_id,
            "redirect_uri": callback,
            "scope": SCOPE,
            "state": state,
            "nonce": nonce,
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
        }
        authorization = self._described().authorization
        return f"{authorization}{'&' if urlsplit(authorization).query else '?'}{urlencode(query)}"

    def claims(self, code: str, callback: str, nonce: str, verifier: str) -> dict[str, Any]:
        """The claims of the ID token for a code. Raises Unauthenticated and Unavailable."""
        described = self._described()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": callback,
            "code_verifier": verifier,
        }
        secret = self._settings.openid_client_secret.get_secret_value()
        answer = self._call("POST", described.token, data=form, auth=(self._settings.openid_client_id, secret))
        if not isinstance(answer, dict) or not isinstance(answer.get("id_token"), str):
            raise Unauthenticated(REFUSED)
        return self._verified(answer["id_token"], self._call("GET", described.keys), nonce, answer.get("access_token"))

    def _verified(self, token: str, keys: Any, nonce: str, access_token: object) -> dict[str, Any]:
        expected = {
            "iss": {"essential": True, "value": self.issuer},
            "aud": {"essential": True, "value": self._settings.openid_client_id},
        }
        params = {"nonce": nonce, "client_id": self._settings.openid_client_id, "access_token": access_token}
        try:
            decoded = jwt.decode(token, KeySet.import_key_set(keys), algorithms=ALGORITHMS)
            checked = CodeIDToken(decoded.claims, decoded.header, expected, params)
            checked.validate(leeway=LEEWAY_SECONDS)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Unauthenticated(REFUSED) from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("authlib", "joserfc"):
                raise
            raise Unauthenticated(REFUSED) from error
        return dict(decoded.claims)

    def _described(self) -> Endpoints:
        if self._endpoints is None or time.monotonic() - self._endpoints[0] > KEPT_SECONDS:
            answer = self._call("GET", self.issuer.rstrip("/") + DESCRIPTION)
            try:
                endpoints = Endpoints(answer["authorization_endpoint"], answer["token_endpoint"], answer["jwks_uri"])
                issuer = str(answer["issuer"])
            except (KeyError, TypeError):
                raise self._away("its description is not complete") from None
            if issuer != self.issuer and issuer.rstrip("/") == self.issuer.rstrip("/"):
                raise self._away(f"it writes itself {issuer}: set VEZNA_OPENID_ISSUER to exactly that")
            safe = all(map(is_safe_url, (endpoints.authorization, endpoints.token, endpoints.keys)))
            if issuer != self.issuer or not safe:
                raise self._away("its description is not that of this issuer, or names an address without https")
            self._endpoints = time.monotonic(), endpoints
        return self._endpoints[1]

    def _call(self, method: str, address: str, **options: Any) -> Any:
        try:
            answer = httpx2.request(method, address, timeout=TIMEOUT, follow_redirects=False, **options)
            if answer.status_code in (400, 401, 403) and method == "POST":
                raise Unauthenticated(REFUSED)
            answer.raise_for_status()
            return answer.json()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise self._away(type(error).__name__) from error

    def _away(self, why: str) -> Unavailable:
        return Unavailable(
            _(
                "The identity provider %(issuer)s does not answer as it should (%(why)s). Try again, or log in with a "
                "password.",
                issuer=self.issuer,
                why=why,
            )
        )
