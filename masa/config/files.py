"""Configuration files: YAML mappings that may extend one another (``extends: FILE``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from masa.config.schema import Config

EXTENDS = "extends"


class ConfigError(ValueError):
    """A mistake in a configuration, told in one message that names key, value found and values allowed."""


class Loader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-6` as a string; every reader of a learning rate expects a number."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def read_config_files(
    path: Path, kind: str = "configuration file", keys: str = "sections", schema: type[BaseModel] = Config
) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """The values of a file laid over those of the file it extends, and so on, and all files read, ``path`` first.
    ``kind``, ``keys`` (of ``schema``) are words of the errors.

    ``extends`` is relative to the file that holds it. Mappings are merged key by key; any other value, a list or null
    among them, takes the place of the extended file's.

    Raises:
        ConfigError: a file that is missing, empty or no YAML mapping, an ``extends`` that is no path, or files that
            extend one another in a circle.
    """
    chain: list[Path] = []
    layers: list[dict[str, Any]] = []
    following: Path | None = path
    while following is not None:
        if any(following.resolve() == one.resolve() for one in chain):
            circle = " -> ".join(map(str, [*chain, following]))
            raise ConfigError(f"{chain[-1]}: {EXTENDS}: the files extend one another in a circle: {circle}")
        whose = f", which {chain[-1]} extends" if chain else ""
        values = read_yaml(following, kind, keys, schema, whose)
        chain.append(following)
        following = _extended_file(values, chain[-1])
        layers.append(values)
    merged: dict[str, Any] = {}
    for values in reversed(layers):
        merged = merge_mappings(merged, values)
    return merged, tuple(chain)


def merge_mappings(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings as one; where both have a value the upper one counts, and two mappings are merged in turn.

    A section that the upper mapping names without any key (null) changes nothing.
    """
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            merged[key] = merge_mappings(under, value)
        elif not (isinstance(under, Mapping) and value is None):
            merged[key] = value
    return merged


def _extended_file(values: dict[str, Any], path: Path) -> Path | None:
    if EXTENDS not in values:
        return None
    named = values.pop(EXTENDS)
    if not isinstance(named, str) or not named.strip():
        raise ConfigError(f"{path}: {EXTENDS}: found {named!r}, allowed: the path of one file, relative to this one")
    return path.parent / Path(named).expanduser()


def read_yaml(path: Path, kind: str, keys: str, schema: type[BaseModel], whose: str = "") -> dict[str, Any]:
    """The mapping that a YAML file holds; ``kind``, ``keys`` (of ``schema``) and ``whose`` are words of the errors.

    Raises:
        ConfigError: the file is missing, empty, no UTF-8 text or no YAML mapping.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder{whose}, a YAML file is needed")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such {kind}{whose}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from None
    try:
        values = yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        place = f", line {where.line + 1}" if where else ""
        raise ConfigError(f"{path}{place}: is not valid YAML: {getattr(error, 'problem', error)}") from None
    if values is None:
        raise ConfigError(f"{path}: the file is empty; {keys} allowed: {', '.join(schema.model_fields)}")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}, a mapping of {keys} is needed")
    return values
