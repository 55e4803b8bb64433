"""Overriding, validating and explaining configurations."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from masa.config.files import ConfigError, Loader, read_config_files
from masa.config.schema import Config

_LIST_OF = "list["
_TYPE_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "dict": "a mapping",
    "list": "a list, such as [a, b]",
}


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """The validated configuration from a YAML file (or the defaults) and ``section.key=value`` overrides.

    A file that extends another (``extends: FILE``) is laid over it; the configuration is the whole of both.

    Raises:
        ConfigError: the file is missing, empty or no YAML mapping; files that extend one another in a circle; an
            unknown key; a value of the wrong type or range.
    """
    values: dict[str, Any] = {}
    origin = "the defaults"
    if path is not None:
        values, files = read_config_files(Path(path))
        origin = " extending ".join(map(str, files))
    for override in overrides:
        _apply_override(values, override)
    return config_from_mapping(values, origin)


def config_from_mapping(values: Mapping[str, Any], origin: str = "the configuration") -> Config:
    """The validated configuration of nested mappings; ``origin`` names their source in errors."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors() if not _is_of_another_kind(item)]
        raise ConfigError(f"{origin}: " + "\n".join(lines)) from None


def dump_config(config: Config) -> str:
    """The whole configuration, defaults included, as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def differing_keys(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys in which two configurations differ, with both values."""
    left, right = _flatten(one.model_dump(mode="json")), _flatten(other.model_dump(mode="json"))
    keys = dict.fromkeys([*left, *right])
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r}: written as section.key=value, for example run.seed=1")
    *parents, last = key.split(".")
    node = values
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {parent} holds {child!r}, which has no keys")
        node = child
    try:
        node[last] = yaml.load(text, Loader=Loader) if text else ""
    except yaml.YAMLError:
        node[last] = text


def _is_of_another_kind(item: Any) -> bool:
    """An option that is text or a list is tried as both; what is said of the kind that was not meant is no mistake."""
    kind, found = str(item["loc"][-1]) if item["loc"] else "", item["input"]
    return (kind == "str" and isinstance(found, list)) or (kind.startswith(_LIST_OF) and not isinstance(found, list))


def _explain(item: Any) -> str:
    kinds = [str(part) for part in item["loc"]]
    location = [part for part in kinds if part != "str" and not part.startswith(_LIST_OF)]
    key = ".".join(location)
    found = item["input"]
    match item["type"]:
        case "extra_forbidden":
            return _explain_unknown_key(location)
        case "value_error":
            message = str(item["ctx"]["error"])
            return f"{key}: {message}" if key else message
        case "model_type":
            return f"{key}: found {found!r}, allowed: a mapping of keys"
        case _:
            return f"{key}: found {found!r}, allowed: {_allowed(item)}"


def _allowed(item: Any) -> str:
    context = item.get("ctx", {})
    kind = str(item["type"])
    match kind:
        case "literal_error":
            return str(context["expected"])
        case "greater_than_equal":
            return f"at least {context['ge']}"
        case "greater_than":
            return f"more than {context['gt']}"
        case "less_than_equal":
            return f"at most {context['le']}"
        case "less_than":
            return f"less than {context['lt']}"
        case _ if kind.endswith("_type"):
            return _TYPE_NAMES.get(kind.removesuffix("_type"), str(item["msg"]))
        case _:
            return str(item["msg"])


def _explain_unknown_key(location: list[str]) -> str:
    *parents, unknown = location
    section: Any = Config
    for parent in parents:
        section = _section_type(section.model_fields[parent].annotation)
    siblings = list(section.model_fields)
    key = ".".join(location)
    near = difflib.get_close_matches(unknown, siblings, n=1)
    if near:
        return f"{key}: unknown key; did you mean {'.'.join([*parents, near[0]])}?"
    elsewhere = [known for known in _flatten(Config().model_dump()) if known.rsplit(".", 1)[-1] == unknown]
    if elsewhere:
        return f"{key}: unknown key; did you mean {elsewhere[0]}?"
    allowed = ", ".join(siblings) if siblings else "none in this section"
    return f"{key}: unknown key; allowed: {allowed}"


def _section_type(annotation: Any) -> type[BaseModel]:
    candidates = [annotation, *get_args(annotation)]
    return next(kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel))
