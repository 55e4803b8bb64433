"""Modules that are commands and functions at once: ``python -m masa.report`` and ``masa.report([...])``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module that can be called, as the function that `make_callable` gave it."""

    call: Callable[..., Any]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.call(*arguments, **named)


def make_callable(name: str, function: Callable[..., Any]) -> None:
    """Let calls of the module ``name`` be calls of ``function``, whose signature and documentation it shows.

    Importing a submodule makes it an attribute of its package, in the place of any function of the same name; a module
    that is both is right either way.
    """
    module = sys.modules[name]
    module.__class__ = CallableModule
    module.call = function  # type: ignore[attr-defined]
    module.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    module.__doc__ = f"{inspect.getdoc(function)}\n\nAlso a command: {module.__doc__}"
