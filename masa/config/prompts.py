"""Options of the prompts: templates, chat format and keys."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from masa.config.section import PositiveInt, Section

DEFAULT_DATE = "2025-01-01"


class MetaKeysSection(Section):
    """Keys of the JSON object that a meta-prediction ends with."""

    notions: str = "notions"
    """Key of the list of notions."""
    pass_rate: str = "pass_rate"
    """Key of the pass rate."""
    solution_length: str = "solution_length"
    """Key of the length of a correct solution, in tokens."""


class SystemSection(Section):
    """The system messages."""

    solution: str | None = None
    """System message before the solution prompt. `prompts.system` may also be one text, for both prompts."""
    meta: str | None = None
    """System message before the meta prompt."""


def _for_both(value: object) -> object:
    if value is None or isinstance(value, str):
        return {"solution": value, "meta": value}
    if not isinstance(value, (Mapping, SystemSection)):
        raise ValueError(f"found {value!r}, allowed: text for both prompts, or a mapping of solution and meta")
    return value


def _iso_date(value: object) -> object:
    # YAML reads a bare date as one.
    return value.isoformat() if isinstance(value, datetime.date) else value


def _is_date(value: str) -> str:
    try:
        return datetime.date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError(f"found {value!r}, allowed: a date as YYYY-MM-DD") from None


class PromptsSection(Section):
    """How a problem becomes a solution prompt and a meta prompt."""

    solution: str = "default"
    """Template of the solution prompt: `default`, `paper` (what the paper's prompt asks for, in this project's words),
    `embedded`, `embedded:long`, a path to a file, or jinja2 text with `{{ problem }}`."""
    meta: str = "default"
    """Template of the meta prompt, named likewise."""
    system: Annotated[SystemSection, BeforeValidator(_for_both)] = SystemSection()
    chat: bool = True
    """Apply the tokenizer's chat template; false: the rendered text is the prompt."""
    template_arguments: dict[str, Any] = Field(default_factory=dict)
    """Passed on to the tokenizer's chat template, such as `{enable_thinking: false}` or `{reasoning_effort: high}`; a
    name that the template does not read is refused."""
    date: Annotated[str, BeforeValidator(_iso_date), AfterValidator(_is_date)] = DEFAULT_DATE
    """The date given to chat templates that print today's date, so that prompts stay the same from day to day."""
    max_tokens: PositiveInt = 2048
    """Problems whose solution or meta prompt is longer are left out and counted."""
    pass_rate_total: Annotated[int, Field(ge=1, le=1000)] = 8
    """The meta prompt asks for a pass rate out of this many attempts."""
    meta_keys: MetaKeysSection = MetaKeysSection()
