"""Changes of a configuration: ``section.key=value`` texts, or mappings of dotted keys or sections to values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from masa.config.files import ConfigError, Loader
from masa.config.schema import Config

Changes = Sequence[str] | Mapping[str, Any]


def apply_changes(values: dict[str, Any], changes: Changes) -> None:
    """Lay ``changes`` over ``values``, nested as a YAML file is; a later change takes the place of an earlier one.

    Raises:
        ConfigError: a text without ``=``, or a key below something that has no keys.
        TypeError: neither texts nor a mapping.
    """
    if isinstance(changes, Mapping):
        for key, value in changes.items():
            _apply(values, str(key).split("."), value, f"change {key!r}")
        return
    if isinstance(changes, (str, bytes)) or not isinstance(changes, Sequence):
        raise TypeError(
            f"overrides: found {changes!r}; allowed: a list of texts, ['run.seed=1'], or a mapping, {{'run.seed': 1}}"
        )
    for text in changes:
        key, separator, value = str(text).partition("=")
        if not separator or not key:
            raise ConfigError(f"override {text!r}: written as section.key=value, for example run.seed=1")
        *parents, last = key.split(".")
        _node(values, parents, f"override {text!r}")[last] = _read(value)


def section_of(parts: Sequence[str]) -> type[BaseModel] | None:
    """The section that a dotted key names; None where it names an option, or nothing."""
    section: Any = Config
    for part in parts:
        field = section.model_fields.get(part)
        section = None if field is None else field.annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return None
    return section


def section_type(annotation: Any) -> type[BaseModel]:
    """The section that an option is, or holds in a list."""
    candidates = [annotation]
    while candidates:
        kind = candidates.pop(0)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
        candidates += get_args(kind)
    raise AssertionError(f"no section in {annotation}")


def _apply(values: dict[str, Any], parts: list[str], value: Any, what: str) -> None:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if section_of(parts) is not None and isinstance(value, Mapping):
        for name, inner in value.items():
            _apply(values, [*parts, *str(name).split(".")], inner, what)
        return
    *parents, last = parts
    _node(values, parents, what)[last] = _plain(value)


def _node(values: dict[str, Any], parents: Sequence[str], what: str) -> dict[str, Any]:
    node = values
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{what}: {parent} holds {child!r}, which has no keys")
        node = child
    return node


def _read(text: str) -> Any:
    try:
        return yaml.load(text, Loader=Loader) if text else ""
    except yaml.YAMLError:
        return text


def _plain(value: Any) -> Any:
    """Paths, tuples and sections as a YAML file would have them."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
