"""Overriding, validating and explaining configurations."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from masa.config.changes import Changes, apply_changes, section_type
from masa.config.files import ConfigError, read_config_files
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


def load_config(path: str | Path | None = None, overrides: Changes = ()) -> Config:
    """The validated configuration from a YAML file (or the defaults), and what is changed in it.

    ``overrides`` are texts, ``["run.seed=1"]``, or a mapping, ``{"run.seed": 1}`` or ``{"run": {"seed": 1}}``.

    A file that extends another (``extends: FILE``) is laid over it; the configuration is the whole of both.

    Raises:
        ConfigError: the file is missing, empty or no YAML mapping; files that extend one another in a circle; an
            unknown key; a value of the wrong type or range.
        TypeError: ``overrides`` is neither.
    """
    values: dict[str, Any] = {}
    origin = "the defaults"
    if path is not None:
        values, files = read_config_files(Path(path))
        origin = " extending ".join(map(str, files))
    apply_changes(values, overrides)
    return config_from_mapping(values, origin)


def changed_config(config: Config, changes: Changes) -> Config:
    """``config`` with changes, checked as a whole; itself stays as it is.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type or range.
    """
    values = config.model_dump()
    apply_changes(values, changes)
    return config_from_mapping(values, "the changed configuration")


def config_from_mapping(values: Mapping[str, Any], origin: str = "the configuration") -> Config:
    """The validated configuration of nested mappings; ``origin`` names their source in errors."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise explained(error, origin) from None


def explained(error: ValidationError, origin: str, schema: type[BaseModel] = Config) -> ConfigError:
    """What pydantic found wrong with values of ``schema``, one line a key; ``origin`` names their source."""
    lines = [_explain(item, schema) for item in error.errors() if not _is_of_another_kind(item)]
    return ConfigError(f"{origin}: " + "\n".join(lines))


def dump_config(config: Config) -> str:
    """The whole configuration, defaults included, as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def differing_keys(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys in which two configurations differ, with both values."""
    left, right = flatten(one.model_dump(mode="json")), flatten(other.model_dump(mode="json"))
    keys = dict.fromkeys([*left, *right])
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _is_of_another_kind(item: Any) -> bool:
    """An option that is text or a list is tried as both; what is said of the kind that was not meant is no mistake."""
    kind, found = str(item["loc"][-1]) if item["loc"] else "", item["input"]
    return (kind == "str" and isinstance(found, list)) or (kind.startswith(_LIST_OF) and not isinstance(found, list))


def _explain(item: Any, schema: type[BaseModel]) -> str:
    kinds = [str(part) for part in item["loc"]]
    location = [part for part in kinds if part != "str" and not part.startswith(_LIST_OF)]
    key = ".".join(location)
    found = item["input"]
    match item["type"]:
        case "extra_forbidden":
            return _explain_unknown_key(location, schema)
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
        case "finite_number":
            return "a finite number"
        case _ if kind.endswith("_type"):
            return _TYPE_NAMES.get(kind.removesuffix("_type"), str(item["msg"]))
        case _:
            return str(item["msg"])


def _explain_unknown_key(location: list[str], schema: type[BaseModel]) -> str:
    *parents, unknown = location
    section: Any = schema
    for parent in parents:
        if parent in section.model_fields:  # else the place in a list, or a key of a mapping
            section = section_type(section.model_fields[parent].annotation)
    siblings = list(section.model_fields)
    key = ".".join(location)
    near = difflib.get_close_matches(unknown, siblings, n=1)
    if near:
        return f"{key}: unknown key; did you mean {'.'.join([*parents, near[0]])}?"
    known_keys = flatten(Config().model_dump()) if schema is Config else ()
    elsewhere = [known for known in known_keys if known.rsplit(".", 1)[-1] == unknown]
    if elsewhere:
        return f"{key}: unknown key; did you mean {elsewhere[0]}?"
    allowed = ", ".join(siblings) if siblings else "none in this section"
    return f"{key}: unknown key; allowed: {allowed}"
