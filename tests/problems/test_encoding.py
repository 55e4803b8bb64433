"""Prompt text to token ids, with a tokenizer whose tokens can be counted by hand: one per character."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from masa.problems import Problem
from masa.problems.prompts import (
    Overlong,
    PromptEncodingError,
    PromptTemplates,
    encode_prompt,
    encode_prompts,
    leave_out_overlong,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'][0] + ':' + message['content'] + ';' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'a:' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<s>": 0} | {chr(code): code for code in range(32, 127)} | {"?": 63}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", unk_token="?")
    made.chat_template = CHAT_TEMPLATE
    return made


@pytest.fixture
def without_template(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    from copy import copy

    bare = copy(tokenizer)
    bare.chat_template = None
    return bare


def codes(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def test_a_chat_prompt_ends_with_the_generation_prompt_and_gets_no_second_start_token(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert encode_prompt(tokenizer, "1+1") == codes("u:1+1;a:")


def test_the_system_message_comes_first(tokenizer: PreTrainedTokenizerFast) -> None:
    assert encode_prompt(tokenizer, "1+1", system="be brief") == codes("s:be brief;u:1+1;a:")


def test_without_chat_the_text_stands_alone_after_the_tokenizer_s_start_token(
    tokenizer: PreTrainedTokenizerFast, without_template: PreTrainedTokenizerFast
) -> None:
    assert encode_prompt(tokenizer, "1+1", chat=False) == (0, *codes("1+1"))
    assert encode_prompt(without_template, "1+1", chat=False) == (0, *codes("1+1"))


def test_a_batch_encodes_each_prompt_as_it_would_be_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["1", "a longer one", "22"]
    assert encode_prompts(tokenizer, texts) == [encode_prompt(tokenizer, text) for text in texts]
    assert encode_prompts(tokenizer, []) == []


def test_a_missing_chat_template_is_told_with_the_way_out(without_template: PreTrainedTokenizerFast) -> None:
    with pytest.raises(PromptEncodingError, match=r"has no chat template: set prompts\.chat to false"):
        encode_prompt(without_template, "1+1")


def test_a_system_message_without_chat_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(PromptEncodingError, match="needs the chat template"):
        encode_prompt(tokenizer, "1+1", system="be brief", chat=False)


def test_a_chat_template_that_knows_no_system_role_gets_it_in_the_user_message(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    from copy import copy

    strict = copy(tokenizer)
    strict.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT_TEMPLATE
    )
    assert encode_prompt(strict, "1+1") == codes("u:1+1;a:")
    assert encode_prompt(strict, "1+1", system="be brief") == codes("u:be brief?1+1;a:")


def problem(statement: str) -> Problem:
    return Problem(id=statement, statement=statement, answer="0")


def test_problems_with_a_prompt_over_the_limit_are_left_out_with_both_lengths(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    templates = PromptTemplates("{{ problem }}", "meta {{ problem }}", response_limit=64)
    # Tokens: the statement, 5 of the chat template, and "meta " before the statement of the meta prompt.
    fits, meta_too_long, both_too_long = problem("x" * 10), problem("x" * 11), problem("x" * 16)
    kept, left_out = leave_out_overlong([fits, meta_too_long, both_too_long], templates, tokenizer, max_tokens=20)
    assert kept == [fits]
    assert left_out == [Overlong(meta_too_long, 16, 21), Overlong(both_too_long, 21, 26)]


def test_the_meta_prompt_does_not_count_where_there_is_none(tokenizer: PreTrainedTokenizerFast) -> None:
    templates = PromptTemplates("{{ problem }}", "meta {{ problem }}", response_limit=64)
    kept, left_out = leave_out_overlong(
        [problem("x" * 11), problem("x" * 16)], templates, tokenizer, max_tokens=20, meta=False
    )
    assert kept == [problem("x" * 11)]
    assert left_out == [Overlong(problem("x" * 16), 21, 0)]
