"""From prompt text to the token ids that an engine continues, and the problems whose prompts are too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masa.config import ConfigError
from masa.problems.problem import Problem

if TYPE_CHECKING:
    from masa.problems.prompts import PromptTemplates


class PromptEncodingError(ConfigError):
    """A prompt that this tokenizer cannot turn into tokens as asked."""


@dataclass(frozen=True)
class Overlong:
    """A problem left out because a prompt of it is too long; lengths in tokens, 0 where no meta prompt was asked."""

    problem: Problem
    solution_tokens: int
    meta_tokens: int


def encode_prompt(tokenizer: Any, text: str, *, system: str | None = None, chat: bool = True) -> tuple[int, ...]:
    """The token ids of one prompt; see `encode_prompts`."""
    return encode_prompts(tokenizer, [text], system=system, chat=chat)[0]


def encode_prompts(
    tokenizer: Any, texts: Sequence[str], *, system: str | None = None, chat: bool = True
) -> list[tuple[int, ...]]:
    """The token ids of each prompt, encoded as one batch.

    With ``chat`` every text becomes the user message of a conversation (after the system message, where there is one)
    in the tokenizer's chat template, generation prompt included. Without it the text is encoded as it stands, with the
    special tokens that the tokenizer itself adds.

    Raises:
        PromptEncodingError: no chat template where one is needed, a template that refuses the system message, a system
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
        head = [{"role": "system", "content": system}] if system else []
        conversations = [[*head, {"role": "user", "content": text}] for text in texts]
        try:
            encoded = tokenizer.apply_chat_template(
                conversations, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except Exception as error:
            raise PromptEncodingError(f"the tokenizer's chat template refuses the prompt: {error}") from error
    else:
        encoded = tokenizer(list(texts))["input_ids"]
    prompts = [tuple(ids) for ids in encoded]
    for text, ids in zip(texts, prompts, strict=True):
        if not ids:
            raise PromptEncodingError(f"the prompt {text[:60]!r} has no tokens")
    return prompts


def leave_out_overlong(
    problems: Sequence[Problem],
    templates: PromptTemplates,
    tokenizer: Any,
    max_tokens: int,
    *,
    system: str | None = None,
    chat: bool = True,
    meta: bool = True,
) -> tuple[list[Problem], list[Overlong]]:
    """The problems whose prompts have at most ``max_tokens`` tokens, in their order, and those left out.

    Both prompts count, or the solution prompt alone where ``meta`` is false. Hints are not counted: they are known
    only during a run.
    """

    def lengths(texts: list[str]) -> list[int]:
        return [len(ids) for ids in encode_prompts(tokenizer, texts, system=system, chat=chat)]

    solution = lengths([templates.render_solution(problem) for problem in problems])
    metas = lengths([templates.render_meta(problem) for problem in problems]) if meta else [0] * len(problems)
    kept: list[Problem] = []
    left_out: list[Overlong] = []
    for problem, solution_tokens, meta_tokens in zip(problems, solution, metas, strict=True):
        if max(solution_tokens, meta_tokens) <= max_tokens:
            kept.append(problem)
        else:
            left_out.append(Overlong(problem, solution_tokens, meta_tokens))
    return kept, left_out
