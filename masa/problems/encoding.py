"""From prompt text to the token ids that an engine continues, and the problems whose prompts are too long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from masa.config.prompts import DEFAULT_DATE
from masa.problems.chat import ChatFormat, PromptEncodingError, conversation, render_chat, system_role
from masa.problems.problem import Problem

if TYPE_CHECKING:
    from masa.problems.templates import TemplateKind

_NONE: Mapping[str, Any] = MappingProxyType({})
_PLAIN = ChatFormat()


@dataclass(frozen=True)
class Overlong:
    """A problem left out because a prompt of it is too long; lengths in tokens, 0 where no meta prompt was asked."""

    problem: Problem
    solution_tokens: int
    meta_tokens: int


class Templates(Protocol):
    """What a problem's two prompts say; `masa.problems.prompts.PromptTemplates` is one."""

    def render_solution(self, problem: Problem) -> str: ...

    def render_meta(self, problem: Problem) -> str: ...


def encode_prompt(tokenizer: Any, text: str, **options: Any) -> tuple[int, ...]:
    """The token ids of one prompt; see `encode_prompts`."""
    return encode_prompts(tokenizer, [text], **options)[0]


def encode_prompts(
    tokenizer: Any,
    texts: Sequence[str],
    *,
    system: str | None = None,
    chat: bool = True,
    arguments: Mapping[str, Any] = _NONE,
    date: str = DEFAULT_DATE,
) -> list[tuple[int, ...]]:
    """The token ids of each prompt, encoded as one batch.

    With ``chat`` every text becomes the user message of a conversation (after the system message, where there is one)
    in the tokenizer's chat template, generation prompt included; ``arguments`` go to the template, and ``date`` is the
    day (YYYY-MM-DD) that it may print. A template that refuses or leaves out system messages gets it at the head of
    the user message. Without ``chat`` the text is encoded as it stands, with the special tokens that the tokenizer
    itself adds.

    Raises:
        PromptEncodingError: no chat template where one is needed, a template that refuses the prompt, a system
            message without chat, or a prompt of no tokens.
    """
    if not texts:
        return []
    if not chat and system:
        raise PromptEncodingError(
            "a system message needs the chat template: found prompts.system with prompts.chat false"
        )
    if chat and not getattr(tokenizer, "chat_template", None):
        raise PromptEncodingError(
            f"the tokenizer {getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__!r} has no chat "
            "template: set prompts.chat to false, so that the rendered template is the whole prompt, or use an "
            "instruct tokenizer"
        )
    if chat:
        role = system_role(tokenizer, arguments, date) if system else "own"
        conversations = [conversation(text, system, role) for text in texts]
        encoded = render_chat(
            tokenizer, conversations, arguments, date, add_generation_prompt=True, tokenize=True, return_dict=False
        )
    else:
        encoded = tokenizer(list(texts))["input_ids"]
    prompts = [tuple(ids) for ids in encoded]
    for text, ids in zip(texts, prompts, strict=True):
        if not ids:
            raise PromptEncodingError(f"the prompt {text[:60]!r} has no tokens")
    return prompts


def encode_problems(
    tokenizer: Any, problems: Sequence[Problem], texts: Sequence[str], kind: TemplateKind, format: ChatFormat
) -> list[tuple[int, ...]]:
    """The token ids of one prompt of each problem, whose rendered template is the text beside it.

    A problem's own system message takes the place of the format's before its solution prompt; without a chat template
    it stands at the head of the text.

    Raises:
        PromptEncodingError: as `encode_prompts`.
    """
    options = format.options(kind)
    common = options.pop("system")
    own = [problem.system if kind == "solution" else None for problem in problems]
    found: dict[int, tuple[int, ...]] = {}
    for system in dict.fromkeys(own):
        places = [place for place, one in enumerate(own) if one == system]
        chosen = [texts[place] for place in places]
        if system and not format.chat:
            chosen = [f"{system}\n\n{text}" for text in chosen]
            encoded = encode_prompts(tokenizer, chosen, system=common, **options)
        else:
            encoded = encode_prompts(tokenizer, chosen, system=system or common, **options)
        found.update(zip(places, encoded, strict=True))
    return [found[place] for place in range(len(problems))]


def prompt_lengths(
    tokenizer: Any, problems: Sequence[Problem], templates: Templates, kind: TemplateKind, format: ChatFormat
) -> list[int]:
    """The number of tokens of each problem's prompt, without a hint.

    Raises:
        PromptEncodingError: as `encode_prompts`.
    """
    render = templates.render_solution if kind == "solution" else templates.render_meta
    texts = [render(problem) for problem in problems]
    return [len(ids) for ids in encode_problems(tokenizer, problems, texts, kind, format)]


def leave_out_overlong(
    problems: Sequence[Problem],
    templates: Templates,
    tokenizer: Any,
    max_tokens: int,
    *,
    format: ChatFormat = _PLAIN,
    meta: bool = True,
) -> tuple[list[Problem], list[Overlong]]:
    """The problems whose prompts have at most ``max_tokens`` tokens, in their order, and those left out.

    Both prompts count, or the solution prompt alone where ``meta`` is false. Hints are not counted: they are known
    only during a run.
    """
    solution = prompt_lengths(tokenizer, problems, templates, "solution", format)
    metas = prompt_lengths(tokenizer, problems, templates, "meta", format) if meta else [0] * len(problems)
    kept: list[Problem] = []
    left_out: list[Overlong] = []
    for problem, solution_tokens, meta_tokens in zip(problems, solution, metas, strict=True):
        if max(solution_tokens, meta_tokens) <= max_tokens:
            kept.append(problem)
        else:
            left_out.append(Overlong(problem, solution_tokens, meta_tokens))
    return kept, left_out
