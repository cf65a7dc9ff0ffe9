"""A spec as one would send it again: YAML for `vezna submit`, JSON and curl for the API."""

import json
import shlex
from typing import Any

import yaml
from pydantic import BaseModel


def plain(spec: BaseModel) -> dict[str, Any]:
    """What differs from the defaults, and the tags without which it cannot be read."""
    found: dict[str, Any] = spec.model_dump(mode="json", exclude_defaults=True)
    full: dict[str, Any] = spec.model_dump(mode="json")
    if "method" in full:
        found["method"] = {"kind": full["method"]["kind"]} | found.get("method", {})
    for place, arm in enumerate(full.get("arms", ())):
        found["arms"][place]["method"] = {"kind": arm["method"]["kind"]} | found["arms"][place].get("method", {})
    return found


def as_yaml(spec: BaseModel) -> str:
    """For a file."""
    return yaml.safe_dump(plain(spec), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def as_json(spec: BaseModel) -> str:
    """Every field, defaults too."""
    return json.dumps(spec.model_dump(mode="json"), indent=2, ensure_ascii=False)


def as_curl(spec: BaseModel, address: str) -> str:
    """A command that submits it to this server."""
    body = json.dumps(plain(spec), ensure_ascii=False)
    return f"curl -X POST {shlex.quote(address)} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
