"""Experts' numbers are replaced, and nothing else: no other token, no other character."""

import json
from functools import lru_cache
from typing import Any

import pytest
from controls_world import tokenizer_of_the_world
from hypothesis import given
from hypothesis import strategies as st

from masa.controls.splice import Measured, Splicer, value_span
from masa.rewards.meta_prediction import MetaKeys, parse_meta_prediction

KEYS = {"pass_rate": MetaKeys().pass_rate, "length": MetaKeys().length}


@lru_cache(maxsize=1)
def merging_tokenizer() -> Any:
    """A byte-level tokenizer that merges digits with each other and with what surrounds them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    texts = [f'{{"notions": ["a"], "pass_rate": {n % 9}, "solution_length": {n}}}' for n in range(400)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")


TOKENIZERS = {"single digits": tokenizer_of_the_world, "merged digits": merging_tokenizer}


def _splicer(tokenizer: Any) -> Splicer:
    return Splicer(tokenizer, lambda text: parse_meta_prediction(text, max_length=8192), KEYS, 8)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_both_numbers_are_replaced_and_the_rest_is_kept(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    text = '<meta>I guess 5 of 8.</meta>{"notions": ["a 5", "b"], "pass_rate": 5, "solution_length": 120}'
    ids = _splicer(tokenizer).splice(_ids(tokenizer, text), Measured(7, 43))
    assert ids is not None
    expected = text.replace('"pass_rate": 5', '"pass_rate": 7').replace("120", "43")
    assert tokenizer.decode(ids) == expected + "<|end|>"


def test_all_tokens_but_those_of_the_numbers_are_the_policys_own() -> None:
    tokenizer = tokenizer_of_the_world()
    # Ids that this tokenizer would never choose by itself: one token a byte.
    head = [token for byte in "<meta>odd</meta>" for token in tokenizer.encode(byte, add_special_tokens=False)]
    tail = tokenizer.encode('{"notions": ["x"], "pass_rate": 5, "solution_length": 120}', add_special_tokens=False)
    ids = [*head, *tail, tokenizer.eos_token_id]
    spliced = _splicer(tokenizer).splice(ids, Measured(7, 999))
    assert spliced is not None
    assert list(spliced[: len(head)]) == head
    assert len(spliced) == len(ids)
    different = [place for place, (new, old) in enumerate(zip(spliced, ids, strict=True)) if new != old]
    assert len(different) == 4  # 5 -> 7 and 120 -> 999, a token a digit


@pytest.mark.parametrize(
    "written",
    ['"5/8"', "5/8", "62.5%", '"62%"', "0.625", "5 out of 8", "'5'"],
)
def test_a_pass_rate_in_another_writing_becomes_a_plain_count(written: str) -> None:
    tokenizer = tokenizer_of_the_world()
    text = f'</meta>{{"notions": ["x"], "pass_rate": {written}, "solution_length": 64}}'
    ids = _splicer(tokenizer).splice(_ids(tokenizer, text), Measured(8, 64))
    assert ids is not None
    assert '"pass_rate": 8,' in tokenizer.decode(ids)


def test_without_a_correct_solution_the_predicted_length_stays() -> None:
    tokenizer = tokenizer_of_the_world()
    text = '{"notions": [], "pass_rate": 3, "solution_length": "1,024"}'
    ids = _splicer(tokenizer).splice(_ids(tokenizer, text), Measured(0, None))
    assert ids is not None
    assert tokenizer.decode(ids) == '{"notions": [], "pass_rate": 0, "solution_length": "1,024"}<|end|>'


@pytest.mark.parametrize(
    "text",
    ["no object at all", '{"pass_rate": 3}', '{"solution_length": 3}', '{"pass_rate": , "solution_length": 4}'],
)
def test_what_has_no_two_numbers_is_no_expert(text: str) -> None:
    tokenizer = tokenizer_of_the_world()
    assert _splicer(tokenizer).splice(_ids(tokenizer, text), Measured(1, 10)) is None


def test_the_span_is_that_of_the_last_object_after_the_thoughts() -> None:
    text = '{"pass_rate": 1}<meta>"pass_rate": 2</meta> {"Pass Rate": 3}'
    start, end = value_span(text, KEYS["pass_rate"])  # type: ignore[misc]
    assert text[start:end] == "3"


@given(
    st.sampled_from(sorted(TOKENIZERS)),
    st.text(max_size=20),
    st.lists(st.text(min_size=1, max_size=10), max_size=3),
    st.integers(0, 8),
    st.integers(1, 9000),
    st.integers(0, 8),
    st.integers(1, 8192),
    st.sampled_from([", ", ",", ",\n  "]),
)
def test_an_expert_says_what_was_measured_and_nothing_else_is_changed(
    kind: str, thought: str, notions: list[str], rate: int, length: int, new_rate: int, new_length: int, gap: str
) -> None:
    tokenizer = TOKENIZERS[kind]()
    listed = json.dumps(notions, ensure_ascii=False)

    def text(rate: int, length: int) -> str:
        return f'<meta>{thought}</meta>{{"notions": {listed}{gap}"pass_rate": {rate}{gap}"solution_length": {length}}}'

    before = _ids(tokenizer, text(rate, length))
    spliced = _splicer(tokenizer).splice(before, Measured(new_rate, new_length))
    if spliced is None:
        # Only texts that do not survive a decoding, or whose notions look like the end of the object, are refused.
        said = parse_meta_prediction(text(new_rate, new_length), max_length=8192)
        odd = "{" in thought or any(set('{}"[]<') & set(one) for one in (*notions, thought))
        assert odd or said.pass_rate is None or tokenizer.decode(before) != text(rate, length) + "<|end|>"
        return
    assert tokenizer.decode(spliced) == text(new_rate, new_length) + "<|end|>"
