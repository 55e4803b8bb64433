"""What a tokenizer's chat template does with a conversation, found out by rendering it: templates are programs."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from masa.config import ConfigError
from masa.config.prompts import DEFAULT_DATE, PromptsSection

if TYPE_CHECKING:
    from masa.problems.templates import TemplateKind

SystemRole = Literal["own", "refused", "swallowed"]

_SYSTEM, _QUESTION, _REPLY = "xqsystemmarkqx", "xqquestionmarkqx", "xqreplymarkqx"
# What rendering passes itself, or gives to the tokenizer and never to the template.
_TAKEN = frozenset(
    {
        *("messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt"),
        *("continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors"),
        *("return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"),
    }
)
_ALWAYS_THERE = _TAKEN | {"strftime_now", "raise_exception"}
# Those of strftime that Python documents.
_DIRECTIVES = "aAwdbBmyYHIpMSfjUWcxXGuV"
# Tags that transformers adds to jinja2; they hold text like any other.
_GENERATION_TAGS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


class PromptEncodingError(ConfigError):
    """A prompt that this tokenizer cannot turn into tokens as asked."""


@dataclass(frozen=True)
class ChatFormat:
    """How the text of a prompt becomes a conversation; the fields are those of the configuration's ``prompts``."""

    chat: bool = True
    system: Mapping[TemplateKind, str | None] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    date: str = DEFAULT_DATE

    @classmethod
    def of(cls, prompts: PromptsSection) -> ChatFormat:
        system: dict[TemplateKind, str | None] = {"solution": prompts.system.solution, "meta": prompts.system.meta}
        return cls(prompts.chat, system, prompts.template_arguments, prompts.date)

    def options(self, kind: TemplateKind) -> dict[str, Any]:
        """The keyword arguments of `masa.problems.encoding.encode_prompts` for prompts of this kind."""
        return {
            "system": self.system.get(kind),
            "chat": self.chat,
            "arguments": self.arguments,
            "date": self.date,
        }


def render_chat(
    tokenizer: Any, conversations: Sequence[Any], arguments: Mapping[str, Any], date: str, **options: Any
) -> Any:
    """``tokenizer.apply_chat_template``, with a clock that stands still: templates that print the date print ``date``.

    Raises:
        PromptEncodingError: the template refuses the conversation.
    """
    try:
        template = tokenizer.get_chat_template()
        if "strftime_now" in template:
            options["chat_template"] = _standing_clock(date) + template
        return tokenizer.apply_chat_template(conversations, **arguments, **options)
    except Exception as error:
        raise PromptEncodingError(f"the tokenizer's chat template refuses the prompt: {error}") from error


def system_role(tokenizer: Any, arguments: Mapping[str, Any], date: str = DEFAULT_DATE) -> SystemRole:
    """What the chat template does with a system message: it has its ``own`` place, is ``refused``, or is ``swallowed``.

    Raises:
        PromptEncodingError: the template refuses a conversation without a system message, too.
    """
    user = {"role": "user", "content": _QUESTION}
    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
    try:
        text = render_chat(tokenizer, [{"role": "system", "content": _SYSTEM}, user], arguments, date, **options)
    except PromptEncodingError:
        render_chat(tokenizer, [user], arguments, date, **options)
        return "refused"
    return "own" if _SYSTEM in text else "swallowed"


def conversation(text: str, system: str | None, role: SystemRole) -> list[dict[str, str]]:
    """The messages of one prompt; a system message that has no place of its own begins the user message."""
    if not system:
        return [{"role": "user", "content": text}]
    if role == "own":
        return [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return [{"role": "user", "content": f"{system}\n\n{text}"}]


def describe_chat(tokenizer: Any, format: ChatFormat, *, of_problems: bool = False) -> list[str]:
    """Check a format against the tokenizer's chat template; the lines that a run has to say about it.

    With ``of_problems`` there are problems with a system message of their own.

    Raises:
        PromptEncodingError: arguments for the template without one, or of names that it does not read.
    """
    _check_arguments(tokenizer, format)
    if not format.chat or not getattr(tokenizer, "chat_template", None):
        return []
    if not any(format.system.values()) and not of_problems:
        return []
    role = system_role(tokenizer, format.arguments, format.date)
    if role == "own":
        return []
    does = {"refused": "refuses a system message", "swallowed": "leaves a system message out"}[role]
    what = "prompts.system" if any(format.system.values()) else "system messages of problems"
    return [f"{what}: the tokenizer's chat template {does}; it is put at the head of the user message instead"]


def turn_end(tokenizer: Any, format: ChatFormat) -> int | None:
    """The special token that follows an assistant's words in the chat template; None where there is none."""
    if not format.chat or not getattr(tokenizer, "chat_template", None):
        return None
    turns = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _REPLY}]
    try:
        text = render_chat(tokenizer, turns, format.arguments, format.date, tokenize=False)
    except PromptEncodingError:
        return None
    _, found, behind = text.rpartition(_REPLY)
    ids = tokenizer.encode(behind.strip(), add_special_tokens=False) if found and behind.strip() else []
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return int(ids[0]) if ids and ids[0] in special | set(tokenizer.all_special_ids) else None


def _check_arguments(tokenizer: Any, format: ChatFormat) -> None:
    if not format.arguments:
        return
    if not format.chat:
        raise PromptEncodingError(
            f"prompts.template_arguments: found {sorted(format.arguments)}, allowed with prompts.chat false: none"
        )
    if not getattr(tokenizer, "chat_template", None):
        return
    known, read = _variables(tokenizer.get_chat_template())
    for name in format.arguments:
        if name in _ALWAYS_THERE or (known and name not in known):
            raise PromptEncodingError(
                f"prompts.template_arguments: found {name!r}, allowed: what the tokenizer's chat template reads "
                f"({', '.join(sorted(read - _ALWAYS_THERE)) or 'it reads nothing that could be given'})"
            )


@lru_cache(maxsize=8)
def _standing_clock(date: str) -> str:
    """A macro that takes the place of transformers' ``strftime_now`` and knows one moment, midnight of ``date``.

    transformers (5.24) passes plain data to templates and no functions, so that the clock is written in the template.
    """
    moment = datetime.datetime.fromisoformat(date)
    directives = [f"%{flag}{letter}" for flag in ("-", "") for letter in _DIRECTIVES]
    formatted = "".join(f" | replace({json.dumps(one)}, {json.dumps(moment.strftime(one))})" for one in directives)
    # The line break goes with the tag (trim_blocks), and the template begins on a line of its own, as it did.
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{formatted} }}}}{{%- endmacro %}}\n"


@lru_cache(maxsize=8)
def _variables(template: str) -> tuple[frozenset[str], frozenset[str]]:
    """All names in a chat template, and those that come from outside; both empty where it cannot be parsed here."""
    import jinja2.meta
    import jinja2.nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        tree = environment.parse(_GENERATION_TAGS.sub("", template))
    except jinja2.TemplateSyntaxError:
        return frozenset(), frozenset()
    names = frozenset(node.name for node in tree.find_all(jinja2.nodes.Name))
    return names, frozenset(jinja2.meta.find_undeclared_variables(tree))
