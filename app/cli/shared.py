"""What every command shares: where it prints, the options that several have, files that it reads."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from app.domain.errors import Invalid

console = Console()
errors = Console(stderr=True, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Url = Annotated[str, typer.Option("--url", envvar="VEZNA_URL", help="Where the server is.")]
LOCAL = "http://127.0.0.1:8000"


def read(path: Path) -> dict[str, Any]:
    """A YAML or JSON file that holds an object. Raises Invalid."""
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(body, dict):
        raise Invalid(f"{path} contains neither a run nor a study. See examples/run.yaml and examples/study.yaml.")
    try:
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"{path} has a value that JSON does not allow ({error}). Put quotes around dates, and use no .nan."
        ) from error
    return body


def print_json(value: Any) -> None:
    """On standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2))
