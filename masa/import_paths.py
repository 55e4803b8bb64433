"""Objects named as ``module:name`` in a configuration."""

from __future__ import annotations

import importlib
from typing import Any

from masa.config.files import ConfigError
from masa.errors import brief


def import_object(path: str) -> Any:
    """What ``module:name`` (or ``module:Class.name``) names; imports the module.

    Raises:
        ValueError: it is written otherwise, or cannot be imported; the message says what went wrong.
    """
    module, separator, name = path.partition(":")
    if not (separator and module and name):
        raise ValueError(f"found {path!r}, allowed: module:name, such as my_module:MyClass")
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module of the user's own may raise anything while it is imported
        raise ValueError(f"{path!r} cannot be imported: {brief(error)}") from error
    return found


def import_option(key: str, path: str) -> Any:
    """`import_object` of ``path``, which the option ``key`` holds.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        return import_object(path)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
