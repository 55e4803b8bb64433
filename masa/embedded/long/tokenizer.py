"""The long world's tokenizer: words, steps, values and digits are one token each, all else is bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from masa.embedded.long.corpus import words
from masa.embedded.tokenizer import ASSISTANT, END, PAD, SYSTEM, USER, with_chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# The fixed parts of a response that the policy need not spell: markers, and the keys of a meta's JSON object.
PHRASES = (
    "<meta>",
    "</meta>",
    '{"notions": ["',
    '", "',
    '"], "pass_rate": ',
    ', "solution_length": ',
    " So \\boxed{",
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, chat template included; nothing about it is learned, and it encodes any text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    singles = [*PHRASES, *words()]
    entries = [PAD, SYSTEM, USER, ASSISTANT, END, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    entries += [form for form in (to_bytes.pre_tokenize_str(word)[0][0] for word in singles) if len(form) > 1]
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    core = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    phrases = "|".join(_quoted(phrase) for phrase in PHRASES)
    # Two digits are one token where a chain's value or count stands; a meta's numbers are spelt digit by digit.
    values = r" \d\d|(?<=boxed\{)\d\d"
    pattern = Regex(rf"{phrases}| [a-p][+*]\d| ?[+*]\d|{values}| ?\p{{L}}+| ?\p{{N}}|.|\s")
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, "isolated"), to_bytes])
    core.decoder = decoders.ByteLevel()
    return with_chat(core)


def _quoted(phrase: str) -> str:
    """``phrase`` as a regular expression that matches it alone."""
    return "".join(
        character if character.isalnum() or character in ' "<>/:,_' else f"\\{character}" for character in phrase
    )
