"""Rows that hold a conversation: its question, the system message before it, and the reply after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.problems.errors import RowError, shown

_SYSTEM_ROLES = ("system", "developer")
_ROLES = (*_SYSTEM_ROLES, "user", "assistant")


@dataclass(frozen=True)
class Conversation:
    """One question: the user's message, the system message (None: there is none) and the assistant's last reply."""

    question: Any
    system: str | None = None
    reply: Any = None


def read_conversation(messages: Sequence[Any], column: str) -> Conversation:
    """The conversation of a column, a list of mappings with ``role`` and ``content``.

    Raises:
        RowError: not exactly one user message, more than one system message, a role that is not known, or content that
            is no text.
    """
    asked = sum(isinstance(one, Mapping) and one.get("role") == "user" for one in messages)
    if asked != 1:
        raise RowError(f"{column} holds {asked} messages of the role 'user', exactly one is allowed")
    by_role: dict[str, list[Any]] = {"system": [], "user": [], "assistant": []}
    for message in messages:
        if not isinstance(message, Mapping):
            raise RowError(f"{column} holds {shown(message)}, messages with role and content are needed")
        role = message.get("role")
        if role not in _ROLES:
            raise RowError(f"{column} holds a message of the role {shown(role)}, allowed: {', '.join(_ROLES)}")
        by_role["system" if role in _SYSTEM_ROLES else role].append(_content(message.get("content"), column))
    if len(by_role["system"]) > 1:
        raise RowError(f"{column} holds {len(by_role['system'])} system messages, at most one is allowed")
    system = next((one for one in by_role["system"] if isinstance(one, str) and one.strip()), None)
    return Conversation(by_role["user"][0], system, by_role["assistant"][-1] if by_role["assistant"] else None)


def _content(content: Any, column: str) -> Any:
    """The text of a message; a list of text parts is joined."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
    if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
        raise RowError(f"{column} holds content that is no text: {shown(content)}; images and sound are not read")
    return "".join(texts)  # type: ignore[arg-type]
