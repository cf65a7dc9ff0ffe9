"""A spec to submit again: YAML for `vezna submit`, JSON and curl for the API."""

import json
import shlex
from typing import Any

import yaml
from pydantic import BaseModel

from app.domain.runs.listing.groups import without_empty


class _Dumper(yaml.SafeDumper):
    """Lists of plain values on one line, everything else below each other."""


def _list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    flat = not any(isinstance(item, list | dict) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flat)


_Dumper.add_representer(list, _list)


def plain(spec: BaseModel) -> dict[str, Any]:
    """Every field that has a value, defaults too: they may change, and this must keep its meaning."""
    return dict(without_empty(spec.model_dump(mode="json")))


def as_yaml(spec: BaseModel) -> str:
    return yaml.dump(plain(spec), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def as_json(spec: BaseModel) -> str:
    """Every field, defaults too."""
    return json.dumps(spec.model_dump(mode="json"), indent=2, ensure_ascii=False)


def as_curl(spec: BaseModel, address: str, *, login: bool = False) -> str:
    """A command that submits it to this server."""
    body = json.dumps(plain(spec), ensure_ascii=False)
    token = ' \\\n  -H "Authorization: Bearer $VEZNA_TOKEN"' if login else ""
    header = "-H 'Content-Type: application/json'"
    return f"curl -X POST {shlex.quote(address)}{token} \\\n  {header} \\\n  -d {shlex.quote(body)}"
