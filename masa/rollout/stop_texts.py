"""Texts that end a response (``rollout.stop``): one rule for all engines, from token ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from masa.rollout.engine import Rollout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Tokens of a window beyond the bytes of the longest text: those before it that are part of a character, or of no text.
_MARGIN = 8


class StopTexts:
    """A response ends with the first token after which its text, special tokens included, contains one of ``texts``.

    That token is part of the response, whole, and so are the tokens of the text: what is trained on is what was
    sampled, and where a response ends follows from its token ids alone, whatever engine sampled them.

    Args:
        tokenizer: decodes the responses.
        texts: the texts, none of them empty.

    ``window`` is how many of the newest tokens an engine looks at before it decodes a whole response. An end that they
    do not show is found by `cut`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> None:
        if not texts or not all(texts):
            raise ValueError(f"stop texts: found {list(texts)}, allowed: texts of at least one character")
        self.texts = tuple(texts)
        # A token is at least one byte of text, but for a few.
        self.window = max(len(text.encode()) for text in texts) + _MARGIN
        self._tokenizer = tokenizer

    def end(self, token_ids: Sequence[int]) -> int | None:
        """How many of the tokens the response has; None where no text ends it."""
        if not self.contained(token_ids):
            return None
        # A text that a response contains is contained in all that go on from it.
        without, within = 0, len(token_ids)
        while within - without > 1:
            middle = (without + within) // 2
            if self.contained(token_ids[:middle]):
                within = middle
            else:
                without = middle
        return within

    def cut(self, rollout: Rollout) -> Rollout:
        """The rollout up to the token that ends it; itself where it has no token after that one.

        An engine may see an end late, or sample several tokens at a time.
        """
        end = self.end(rollout.token_ids)
        if end is None:
            return rollout
        return replace(
            rollout, token_ids=rollout.token_ids[:end], logprobs=rollout.logprobs[:end], finish_reason="stop"
        )

    def contained(self, token_ids: Sequence[int]) -> bool:
        """Whether the text of these tokens contains one of the texts."""
        found = self._tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return any(text in found for text in self.texts)
