"""`vezna`: start, submit, watch, compare. Commands that start something use the database, the others REST."""

import os
import signal
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from sqlalchemy.exc import SQLAlchemyError

from app import feature
from app.cli import serve
from app.cli.checks import doctor
from app.cli.data import datasets as data
from app.cli.data import hub_token, models
from app.cli.help import localize, usage_error
from app.cli.language import language_of
from app.cli.runs import archive, files, lists, queue, reproduce
from app.cli.shared import errors, say
from app.cli.studies import export_study, studies
from app.cli.users import audit, keys, login, users
from app.domain.errors import Invalid, VeznaError
from app.domain.messages import _
from app.words.i18n import localized, speak

cli = typer.Typer(
    help="Weighs full fine-tuning against LoRA: memory, time, quality, and how sure.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (serve.up, serve.demo, serve.web, studies.submit, studies.estimate, studies.watch, studies.compare):
    cli.command()(command)
cli.command(name="list")(lists.list_all)
cli.command()(lists.cancel)
cli.command()(doctor.doctor)
cli.command(name="sample")(serve.submit_sample)
cli.command()(files.export)
cli.command()(files.report)
cli.command(name="export-study")(export_study.export_study)
cli.command()(reproduce.reproduce)
cli.add_typer(archive.runs, name="runs")
cli.add_typer(archive.studies, name="studies")
cli.add_typer(queue.queue, name="queue")
cli.add_typer(hub_token.hub_token, name="hub-token")
cli.add_typer(data.datasets, name="datasets")
cli.add_typer(models.models, name="models")
cli.add_typer(users.users, name="user")
cli.command()(audit.audit)
cli.command(name="rotate-key")(keys.rotate_key)
cli.command()(login.login)
cli.command()(login.logout)
cli.command(name="migrate")(serve.migrate_database)
_wrong_features: Invalid | None = None
try:
    for module in feature.modules("commands"):
        module.register(cli)
except Invalid as error:  # VEZNA_FEATURES: `main` says it, in the language of the command
    _wrong_features = error


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"vezna {version('vezna')}")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Weighs full fine-tuning against LoRA: memory, time, quality, and how sure."""


def main() -> None:
    """Entry point: a Vezna error is one sentence on standard error, and exit status 1."""
    signal.signal(signal.SIGTERM, _leave)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it stays ignored
        signal.signal(signal.SIGHUP, _leave)
    speak(language_of(os.environ, sys.argv[1:]))
    command = typer.main.get_command(cli)
    localize(command)
    try:
        if _wrong_features is not None:
            raise _wrong_features
        sys.exit(command(standalone_mode=False))
    except typer.TyperException as error:
        _fail(*usage_error(error), status=error.exit_code)
    except typer.Abort:
        _fail(_("Aborted."))
    except Invalid as error:
        _fail(*[field.located for field in error.fields] or [error.message])
    except VeznaError as error:
        _fail(error.message)
    except SQLAlchemyError as error:
        why = " ".join(str(getattr(error, "orig", None) or error).split())
        _fail(_("The database does not answer: %(why)s", why=why))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(*lines: str, status: int = 1) -> NoReturn:
    for line in lines:
        errors.print(localized(line), style="red", highlight=False, markup=False)
    sys.exit(status)


def _leave(_number: int, _frame: object) -> None:
    """End a command on SIGTERM, and on SIGHUP of a closed terminal, as on Ctrl+C: it first stops what it has
    started."""
    raise KeyboardInterrupt
