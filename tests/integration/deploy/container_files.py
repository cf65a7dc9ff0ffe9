"""Dockerfile and docker-compose.yml, read as far as tests need it: stages, commands, environments, variables."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import relpath
from pathlib import Path
from typing import Any

import yaml

from app.settings import ROOT

FILES = (
    "docker-compose.yml",
    "deploy/compose.gpu.yml",
    "deploy/compose.proxy.yml",
    "deploy/compose.remote.yml",
    "deploy/compose.worker.yml",
)
VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?:(:[-?])([^}]*))?\}")


class Missing(Exception):
    """The compose file asks for a variable that has no value; the message is the file's own."""


@dataclass
class Stage:
    """A stage of a Dockerfile: the stage or image that it begins from, and its instructions."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


class Dockerfile:
    """Stages by name, and what an image made from one runs, with which environment."""

    def __init__(self, path: Path = ROOT / "Dockerfile") -> None:
        self.stages: dict[str, Stage] = {}
        lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
        for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
            if not line.strip():
                continue
            name, _, rest = line.strip().partition(" ")
            if name == "FROM":
                base, _, stage = rest.partition(" AS ")
                self.stages[stage] = Stage(base)
            elif self.stages:
                next(reversed(self.stages.values())).instructions.append((name, rest.strip()))

    def chain(self, target: str) -> list[tuple[str, str]]:
        """The instructions of a target and of the stages that it begins from, in order."""
        stage = self.stages[target]
        return [*(self.chain(stage.base) if stage.base in self.stages else []), *stage.instructions]

    def last(self, target: str, instruction: str) -> str:
        """The value in force of an instruction such as USER or CMD."""
        return [value for name, value in self.chain(target) if name == instruction][-1]

    def environment(self, target: str) -> dict[str, str]:
        """What ENV sets."""
        pairs = [word for name, value in self.chain(target) if name == "ENV" for word in shlex.split(value)]
        return dict(pair.split("=", 1) for pair in pairs)

    def command(self, target: str) -> list[str]:
        """CMD in its exec form."""
        return [str(word) for word in json.loads(self.last(target, "CMD"))]

    def healthcheck(self, target: str) -> list[str]:
        """The exec form of HEALTHCHECK's command."""
        return [str(word) for word in json.loads(self.last(target, "HEALTHCHECK").partition(" CMD ")[2])]


def compose_variables() -> set[str]:
    """The variables that the compose files read: from .env and the shell, to fill in or to hand on."""
    texts = [(ROOT / name).read_text() for name in FILES]
    handed_on = {name for text in texts for name in re.findall(r"^ +([A-Z][A-Z_]+):$", text, re.MULTILINE)}
    return handed_on | {name for text in texts for name in re.findall(r"\$\{(\w+)", text)}


def compose(variables: Mapping[str, str], path: Path = ROOT / "docker-compose.yml") -> dict[str, Any]:
    """The compose file with its variables filled in, and its paths relative to the checkout. Raises Missing."""
    text = yaml.safe_load(path.read_text())
    project = path.parent if "name" in text else ROOT  # the other files are added to docker-compose.yml

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: fill(value) for key, value in node.items()}
        if isinstance(node, list):
            return [fill(value) for value in node]
        return placed(VARIABLE.sub(value_of, node)) if isinstance(node, str) else node

    def placed(value: str) -> str:
        place, colon, rest = value.partition(":")
        return f"./{relpath(project / place, ROOT)}{colon}{rest}" if place.split("/")[0] in (".", "..") else value

    def value_of(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        value = variables.get(match[1], "")
        if not value and match[2] == ":?":
            raise Missing(f"{match[1]}: {match[3]}")
        return value or (match[3] or "" if match[2] == ":-" else "")

    found: dict[str, Any] = fill(text)
    for service in found["services"].values():
        if extended := service.pop("extends", None):  # maps are merged, anything else is replaced
            extended_file = compose(variables, project / extended["file"])
            for key, value in extended_file["services"][extended["service"]].items():
                service[key] = value | service[key] if isinstance(service.get(key), dict) else service.get(key, value)
        given = service.get("environment", {})  # a key without a value is taken from the caller, if it is there
        kept = {key: value if value is not None else variables.get(key) for key, value in given.items()}
        service["environment"] = {key: value for key, value in kept.items() if value is not None}
    return found
