"""`vezna doctor`: checks this installation, and says what is wrong with it and what to do."""

import fcntl
import re
from collections.abc import Iterator
from dataclasses import asdict

import typer
from pydantic import SecretStr

from app.cli.checks import machine, services
from app.cli.checks.finding import Finding
from app.cli.shared import Json, show
from app.domain.errors import Invalid
from app.settings import Settings, load
from app.words.i18n import gettext as _
from app.words.i18n import stored


def doctor(as_json: Json = False) -> None:
    """Check this installation: libraries, disk, permissions, database, broker, files, workers, GPU and clocks. The exit
    status is 1 if something is wrong."""
    findings = list(examine())
    show([asdict(finding) for finding in findings], as_json)
    if not as_json:
        show(findings, False, lambda findings: [finding.line for finding in findings], wrap=False)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    yield machine.python()
    yield from machine.libraries()
    try:
        settings = load()
    except Invalid as error:
        yield Finding(
            "settings", "problem", stored(error.message).rstrip("."), _("Correct the variable: docs/configuration.md")
        )
        return
    settings = of_running_stack(settings)
    yield from machine.home(settings)
    yield from services.database(settings)
    yield services.broker(settings)
    yield services.files(settings)
    yield from machine.gpu(settings)


def of_running_stack(settings: Settings) -> Settings:
    """With the broker of `vezna up`, if that runs in this home: its port and password are of this start."""
    configuration = settings.home / "broker" / "valkey.conf"
    try:
        with (settings.home / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return settings
            except BlockingIOError:
                text = configuration.read_text()
    except OSError:
        return settings
    port, password = (re.search(rf"^{name} (\S+)$", text, re.MULTILINE) for name in ("port", "requirepass"))
    if not port or not password:
        return settings
    return settings.model_copy(update={"broker_url": SecretStr(f"redis://:{password[1]}@127.0.0.1:{port[1]}/0")})
