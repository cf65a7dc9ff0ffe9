"""Settings: one frozen class, read from the environment (prefix `VEZNA_`) once, when a process starts.

A secret (a `SecretStr`) may also be given as a file: `VEZNA_DATABASE_URL_FILE=/run/secrets/database_url`.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app import feature
from app.domain.errors import Invalid
from app.domain.messages import Message, _
from app.settings.accounts import AccountSettings
from app.settings.tracker import TrackerSettings
from app.settings.values import (
    LOOPBACK_ADDRESSES,
    content,
    has_password,
    host_and_port,
    listed,
    require_hosts,
    require_proxies,
    require_server_address,
    sentence,
    with_password,
)

ROOT = Path(__file__).resolve().parents[2]
"""The project's directory: templates, static files and migrations lie here."""

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names that no other site can take, so a server always answers to them."""


class Settings(AccountSettings, TrackerSettings):
    """Every setting, with its default and what it is for."""

    model_config = SettingsConfigDict(env_prefix="VEZNA_", env_ignore_empty=True, frozen=True, extra="ignore")

    features: str = "all"
    """Active features, by name and comma-separated. `app.feature` reads it, since to set it to nothing means none."""
    home: Path = Path(".vezna")
    """Directory of the embedded database, broker, files and logs."""
    database_url: SecretStr = SecretStr("")
    """SQLAlchemy URL; empty means SQLite in `home`."""
    database_password: SecretStr = SecretStr("")
    """Password of the database, for a `database_url` without one."""
    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """Redis URL; `vezna up` and `vezna demo` start a server of their own and set it."""
    broker_password: SecretStr = SecretStr("")
    """Password of the broker, for a `broker_url` without one."""
    broker_prefix: str = "vezna:"
    """Put before every key in Redis, so that several installations can share a server."""
    files_url: str = ""
    """Place of artifacts and datasets: an fsspec URL (`s3://bucket/prefix`) or a directory; empty is `home`/files."""
    model_roots: Annotated[list[Path], NoDecode, BeforeValidator(listed)] = Field(default_factory=list)
    """Directories below which base models may be registered by path (a JSON list, or with commas)."""
    data_roots: Annotated[list[Path], NoDecode, BeforeValidator(listed)] = Field(default_factory=list)
    """Directories below which data may be registered by path (as `model_roots`)."""
    upload_bytes: int = Field(default=4 * 2**30, ge=1)
    """How large an uploaded file may be."""

    hub_token: SecretStr = SecretStr("")
    """Token of the Hugging Face hub for models that are not open to all, for workers; empty leaves it to `HF_TOKEN`."""

    host: str = "127.0.0.1"
    """Address that the web server answers at."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Its port."""
    login: Literal["auto", "required", "single-user"] = "auto"
    """Whether requests must be authenticated. `auto`: always, but for `vezna up` and `vezna demo` on a server that only
    this machine can reach; `single-user`: never, which is refused unless only this machine can reach the server."""
    allowed_hosts: Annotated[list[str], NoDecode, BeforeValidator(listed)] = Field(default_factory=list)
    """Further names by which the server may be called; anything else is refused, against DNS rebinding (as
    `model_roots`)."""
    url: str = "http://127.0.0.1:8000"
    """Address at which commands call the server, which always answers to its name."""

    forwarded_allow_ips: Annotated[list[str], NoDecode, BeforeValidator(listed)] = Field(default_factory=list)
    """Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed (as
    `model_roots`); from any other address these headers are ignored."""
    requests_per_minute: int = Field(default=1200, ge=0)
    """Requests that a client of another machine may send to a web process in a minute; 0 is no limit."""
    streams_per_client: int = Field(default=50, ge=1)
    """Event streams that such a client, or a user from anywhere, may have open in a web process."""
    metrics_address: str = ""
    """`HOST:PORT` that `/metrics` and `/readyz` are served at, and no longer at `host` and `port`; empty serves both
    there."""

    outbound_hosts: Annotated[list[str], NoDecode, BeforeValidator(listed)] = Field(default_factory=list)
    """Hosts that Vezna may send requests to when a user names them: `hooks.example.org`, `10.0.0.5:8000`, and addresses
    and networks that are not public, `10.0.0.0/8` (as `model_roots`); empty sends none."""

    worker_name: str = ""
    """Name of this worker; empty takes the host's, or `HOST-2` beside another worker."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What this worker trains on; `auto` is every GPU that works, else the CPU."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of a trainer; None keeps torch's default."""
    heartbeat_file: Path | None = None
    """File of a worker or control node for health checks: its time of change is when the process counts as hung."""
    warm_spare: bool = True
    """Keep a trainer for the next run ready, with its libraries imported; it takes about 450 MiB of main memory."""
    lease_seconds: float = Field(default=45.0, gt=0)
    """Time without renewal after which a worker loses its lease on a run."""
    heartbeat_seconds: float = Field(default=10.0, gt=0)
    """Interval between a worker's heartbeats, also when it is idle."""
    report_seconds: float = Field(default=1.0, gt=0)
    """Interval at which progress is written to the database and cancel requests are noticed."""
    sweep_seconds: float = Field(default=20.0, gt=0)
    """Interval between sweeps, which ring again for lost work and end expired leases."""
    ring_again_seconds: float = Field(default=40.0, gt=0)
    """Time after which the sweep rings again for a queued run while a worker is idle."""
    stall_seconds: float = Field(default=1800.0, gt=0)
    """Time without progress after which a trainer is ended as `stalled`."""
    stop_seconds: float = Field(default=15.0, gt=0)
    """Grace period of a trainer that was told to stop, before it is killed."""
    checkpoint_seconds: float = Field(default=300.0, gt=0)
    """Interval between checkpoints of a training; an interrupted run resumes from its last checkpoint."""
    weight_delta_seconds: float = Field(default=10.0, ge=0)
    """Time budget of the weight-delta analysis, unless a tenth of the train clock is more; 0 skips the analysis."""
    infer_on_control: bool = True
    """Whether control nodes answer requests of the playground, of `vezna predict` and of the API; otherwise start a
    node for them: `celery -A worker.celery worker -Q infer`."""
    infer_idle_seconds: float = Field(default=600.0, gt=0)
    """Time without a request after which a model is unloaded, and the inference process ends."""
    cache_bytes: int = Field(default=20 * 2**30, ge=0)
    """Maximum size of the activations of frozen blocks that `home`/cache keeps from run to run; 0 keeps nothing there,
    and no evaluations of base models either."""
    max_attempts: int = Field(default=3, ge=1)
    """Maximum number of attempts of a run whose worker is lost."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum level of logged messages."""
    log_format: Literal["text", "json"] = "text"
    """Lines for people, or JSON for a collector."""

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in cls.secrets():
            variable = f"VEZNA_{name.upper()}"
            path = os.environ.get(f"{variable}_FILE")
            if path and os.environ.get(variable):
                raise ValueError(
                    _("%(variable)s and %(variable)s_FILE are both set: set one of them", variable=variable)
                )
            if path and not values.get(name):
                values[name] = content(f"{variable}_FILE", path)
        return values

    @classmethod
    def secrets(cls) -> tuple[str, ...]:
        """The settings that are secrets."""
        return tuple(name for name, field in cls.model_fields.items() if field.annotation is SecretStr)

    @field_validator("home")
    @classmethod
    def _home_is_absolute(cls, home: Path) -> Path:
        home = home.expanduser().resolve()
        there = next(place for place in (home, *home.parents) if place.exists())
        if not there.is_dir():
            raise ValueError(_("%(there)s is a file, not a directory", there=there))
        return home

    @field_validator("database_url")
    @classmethod
    def _database_is_one_that_we_speak(cls, url: SecretStr) -> SecretStr:
        remedy = _("say postgresql://user:password@host:5432/name, or leave it empty for SQLite")
        try:
            kind = make_url(url.get_secret_value()).get_backend_name() if url.get_secret_value() else "sqlite"
        except (ArgumentError, ValueError):
            raise ValueError(
                _("this is not the URL of a database: %(remedy)s", remedy=remedy)
            ) from None  # it may hold a password
        if kind not in ("sqlite", "postgresql"):
            raise ValueError(_("%(kind)s is not supported: %(remedy)s", kind=kind, remedy=remedy))
        return url

    _url_has_a_host = field_validator("url")(require_server_address)
    _proxies_are_addresses = field_validator("forwarded_allow_ips")(require_proxies)
    _outbound_hosts_are_hosts = field_validator("outbound_hosts")(require_hosts)

    @field_validator("metrics_address")
    @classmethod
    def _metrics_have_a_port(cls, address: str) -> str:
        if address and not host_and_port(address):
            raise ValueError(_("this is not HOST:PORT: write 127.0.0.1:9100, with an IPv6 address in brackets"))
        return address

    @model_validator(mode="after")
    def _they_agree(self) -> "Settings":
        feature.active()  # or it names one that does not exist
        for name, url in (("DATABASE", self.database_url), ("BROKER", self.broker_url)):
            password = getattr(self, f"{name.lower()}_password").get_secret_value()
            if password and not url.get_secret_value():
                raise ValueError(
                    _("VEZNA_%(name)s_PASSWORD is set without VEZNA_%(name)s_URL: set both, or neither", name=name)
                )
            if password and has_password(url.get_secret_value()):
                raise ValueError(
                    _(
                        "VEZNA_%(name)s_URL has a password already: remove it there, or VEZNA_%(name)s_PASSWORD",
                        name=name,
                    )
                )
        if self.login == "single-user" and self.host not in LOOPBACK_ADDRESSES:
            raise ValueError(
                _(
                    "VEZNA_LOGIN=single-user would open VEZNA_HOST=%(host)s to the network without login. Set "
                    "VEZNA_HOST=127.0.0.1, or VEZNA_LOGIN=required.",
                    host=self.host,
                )
            )
        if self.metrics and self.metrics[1] == self.port:
            raise ValueError(_("VEZNA_METRICS_ADDRESS needs another port than VEZNA_PORT"))
        if self.admin_email and not self.admin_password.get_secret_value():
            raise ValueError(
                _("VEZNA_ADMIN_EMAIL creates the first admin only together with VEZNA_ADMIN_PASSWORD_FILE")
            )
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError(_("VEZNA_LEASE_SECONDS must be at least twice VEZNA_HEARTBEAT_SECONDS"))
        if self.report_seconds * 2 > self.lease_seconds:
            raise ValueError(
                _("VEZNA_LEASE_SECONDS must be at least twice VEZNA_REPORT_SECONDS: a report renews the lease")
            )
        return self

    @property
    def login_required(self) -> bool:
        """Whether requests must be authenticated (docs/decisions/0019-when-login-is-required.md)."""
        return self.login != "single-user"

    def for_up(self) -> "Settings":
        """The settings of `vezna up` and `vezna demo`: without login if it is left to them and only this machine can
        reach the server."""
        return self.model_copy(update={"login": "single-user"}) if self.login == "auto" and self.is_local else self

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server: it listens on loopback and answers to names of loopback
        alone, and no proxy is trusted. A proxy before it would call it by another name, or is named by
        `forwarded_allow_ips`."""
        return self.host in LOOPBACK_ADDRESSES and set(self.hosts) <= set(LOOPBACK) and not self.forwarded_allow_ips

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        url = self.database_url.get_secret_value() or f"sqlite:///{self.home / 'vezna.sqlite'}"
        return with_password(url, self.database_password)

    @property
    def broker(self) -> str:
        """The Redis URL in force."""
        return with_password(self.broker_url.get_secret_value(), self.broker_password)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that the server answers to."""
        address = urlsplit(self.url).netloc.rpartition("@")[2]
        names = (*LOOPBACK, re.sub(r":\d*$", "", address), *self.allowed_hosts)
        return tuple(name for name in names if name)

    @property
    def metrics(self) -> tuple[str, int] | None:
        """Host and port of `/metrics` and `/readyz`, if they have their own."""
        return host_and_port(self.metrics_address)

    @property
    def files(self) -> str:
        """The place of artifacts and datasets in force."""
        return self.files_url or str(self.home / "files")


def load(**values: Any) -> Settings:
    """The settings of this process. Raises Invalid, with a sentence for each variable that is wrong."""
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise Invalid(Message.joined(map(sentence, error.errors()), "; ")) from error
    if settings.login == "single-user" and not settings.is_local:
        raise Invalid(
            _(
                "VEZNA_LOGIN=single-user would open the server to other machines without login, since "
                "VEZNA_ALLOWED_HOSTS or VEZNA_URL has a name that is not loopback's, or VEZNA_FORWARDED_ALLOW_IPS a "
                "proxy. Unset them, or set VEZNA_LOGIN=required."
            )
        )
    return settings
