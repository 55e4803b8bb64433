"""Parsing of meta-predictions: never raises, and says what it found."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from masa.rewards import MetaKeys, MetaPrediction, parse_meta_prediction
from masa.rewards.json_objects import BareNumber, last_object

NOTIONS = '"notions": ["prime factorization", "modular arithmetic"]'


def pass_rate(written: str, total: int = 8) -> float | None:
    return parse_meta_prediction(f'{{"pass_rate": {written}}}', pass_rate_total=total).pass_rate


def length(written: str, max_length: int | None = None) -> int | None:
    return parse_meta_prediction(f'{{"solution_length": {written}}}', max_length=max_length).length


def notions(written: str) -> tuple[str, ...] | None:
    return parse_meta_prediction(f'{{"notions": {written}}}').notions


def test_the_object_after_the_closing_tag_is_the_prediction() -> None:
    text = '<meta>Perhaps {"pass_rate": 1}</meta>\n{' + NOTIONS + ', "pass_rate": 6, "solution_length": 512}'
    prediction = parse_meta_prediction(text)
    assert prediction == MetaPrediction(("prime factorization", "modular arithmetic"), 0.75, 512)
    assert prediction.found == ("notions", "pass_rate", "length")
    assert prediction.complete


def test_without_the_tag_the_whole_text_is_searched() -> None:
    assert parse_meta_prediction('I say {"pass_rate": 4}').pass_rate == 0.5


def test_an_object_before_the_tag_is_not_a_prediction() -> None:
    assert not parse_meta_prediction('<meta>{"pass_rate": 4}</meta> nothing follows').parsed


def test_the_last_tag_counts() -> None:
    text = '</meta>{"pass_rate": 1} no, wait </meta>{"pass_rate": 2}'
    assert parse_meta_prediction(text).pass_rate == 0.25


def test_the_last_of_several_objects_counts() -> None:
    assert parse_meta_prediction('</meta>{"pass_rate": 1}\n{"pass_rate": 8}').pass_rate == 1.0


def test_a_broken_object_after_a_good_one_leaves_the_good_one() -> None:
    assert parse_meta_prediction('</meta>{"pass_rate": 1} {"pass_rate": ').pass_rate == 0.125


def test_an_object_inside_another_is_part_of_it() -> None:
    assert parse_meta_prediction('{"pass_rate": 4, "why": {"pass_rate": 8}}').pass_rate == 0.5


def test_of_a_repeated_key_the_last_value_counts() -> None:
    assert parse_meta_prediction('{"pass_rate": 4, "pass_rate": 2}').pass_rate == 0.25


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"pass_rate": 6, "solution_length": 300}\n```',
        "{'pass_rate': 6, 'solution_length': 300}",
        '{"pass_rate": 6, "solution_length": 300,}',
        '{"pass_rate": "6", "solution_length": "300"}',
        '{"Pass Rate": 6, "solution-length": 300}',
        '{\n  "pass_rate" : 6 ,\n  "solution_length" : 300.0\n}',
        '[{"pass_rate": 6, "solution_length": 300}]',
        'set {x : x > 1} and \\frac{1}{2} {"pass_rate": 6/8, "solution_length": "300 tokens"} }',
    ],
    ids=["fence", "single quotes", "trailing comma", "strings", "key spelling", "spaces", "in a list", "in prose"],
)
def test_the_usual_slips_are_forgiven(text: str) -> None:
    prediction = parse_meta_prediction("</meta>" + text)
    assert (prediction.pass_rate, prediction.length) == (0.75, 300)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("6", 0.75),
        ("6.0", 0.75),
        ('"6"', 0.75),
        ("6/8", 0.75),
        ('"6 / 8"', 0.75),
        ('"6 out of 8"', 0.75),
        ("3/4", 0.75),
        ("75%", 0.75),
        ('"75 %"', 0.75),
        ("0.75", 0.75),
        ("0", 0.0),
        ("8", 1.0),
        ("1", 0.125),
        ("1.0", 0.125),
        ("0.5", 0.5),
        ("4.4", 0.55),
    ],
)
def test_a_pass_rate_is_read_as_a_fraction_of_one(written: str, expected: float) -> None:
    assert pass_rate(written) == pytest.approx(expected)


@pytest.mark.parametrize(
    "written",
    ["9", "-1", "9/8", "1/0", "-1/8", "101%", "-5%", "NaN", "Infinity", "1e999", "true", "null", "[6]", '"six"', '""'],
)
def test_a_pass_rate_out_of_range_is_not_found(written: str) -> None:
    prediction = parse_meta_prediction(f'{{"pass_rate": {written}, "solution_length": 5}}')
    assert prediction.pass_rate is None
    assert prediction.found == ("length",)


def test_the_total_of_the_prompt_scales_counts() -> None:
    assert pass_rate("3", total=4) == 0.75
    assert pass_rate("3/8", total=4) == 0.375
    with pytest.raises(ValueError, match="pass_rate_total is 0"):
        parse_meta_prediction("", pass_rate_total=0)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("512", 512), ("1,024", 1024), ('"1,024"', 1024), ('"~512 tokens"', 512), ("512.4", 512), ("1e3", 1000)],
)
def test_a_length_is_a_whole_number_of_tokens(written: str, expected: int) -> None:
    assert length(written) == expected


@pytest.mark.parametrize(
    "written", ["0", "-5", "NaN", "-Infinity", "0.2", "1e300", "9" * 5000, '"long"', "false", "{}"]
)
def test_a_length_out_of_range_is_not_found(written: str) -> None:
    assert length(written) is None


def test_a_length_above_the_limit_is_not_found() -> None:
    assert length("8192", max_length=8192) == 8192
    assert length("8193", max_length=8192) is None


def test_a_listed_notion_may_hold_a_comma() -> None:
    assert notions('["sine, cosine and tangent", "area"]') == ("sine, cosine and tangent", "area")


def test_a_string_of_notions_is_split_at_commas() -> None:
    assert notions('"area, sine ,, cosine"') == ("area", "sine", "cosine")


def test_an_apostrophe_does_not_end_a_single_quoted_notion() -> None:
    assert notions("['Vieta's formulas', 'area']") == ("Vieta's formulas", "area")


def test_what_is_not_a_name_is_left_out_of_the_notions() -> None:
    assert notions('["area", 5, null, "", "  ", ["x"], {"y": 1}, "area", "long' + "g" * 300 + '"]') == ("area",)


def test_an_empty_list_of_notions_is_found_and_a_number_is_not() -> None:
    assert notions("[]") == ()
    assert notions("5") is None


def test_the_authors_keys_are_known_and_others_can_be_given() -> None:
    assert parse_meta_prediction('{"math_notion": ["area"]}').notions == ("area",)
    keys = MetaKeys(pass_rate=("odds",))
    assert parse_meta_prediction('{"odds": 2, "pass_rate": 8}', keys=keys).pass_rate == 0.25


def test_an_escape_that_json_does_not_know_is_kept() -> None:
    assert last_object(r'{"a": "\alpha \"quoted\" \u0041"}') == {"a": r'\alpha "quoted" A'}


def test_a_number_keeps_the_way_it_was_written() -> None:
    assert last_object('{"a": 6/8, "b": [1, 75%]}') == {
        "a": BareNumber("6/8"),
        "b": [BareNumber("1"), BareNumber("75%")],
    }


def test_nothing_is_found_in_text_without_an_object() -> None:
    prediction = parse_meta_prediction("no JSON here")
    assert prediction == MetaPrediction()
    assert not prediction.parsed


@pytest.mark.parametrize(
    "text",
    [
        "{" * 300_000,
        "{'" * 200_000,
        '{"a":[' * 100_000,
        "{'a':'" * 100_000,
        '{"' + "\\" * 300_000,
        '{"a":1' + ",111" * 100_000,
        "{" + " " * 300_000,
        '{"a": "x", ' * 50_000,
        "</meta>" * 100_000,
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_text_made_to_be_slow_is_read_in_a_second(text: str) -> None:
    started = time.process_time()
    parse_meta_prediction(text)
    assert time.process_time() - started < 1.0


FRAGMENTS = st.sampled_from(
    [
        *("{", "}", "[", "]", '"', "'", ":", ",", "</meta>", "notions", "pass_rate", "solution_length", '"pass_rate":'),
        *("6/8", "75%", "-1", "NaN", "1e999", "1,024", "null", "９", "½"),
        *("\\", "\\u12", "\\ud800", "```json", " ", "\n", "\ud800", "\x00"),
    ]
)
ANY_TEXT = st.one_of(st.text(max_size=30), st.lists(FRAGMENTS, max_size=20).map("".join))


def check_any_text(text: str) -> None:
    prediction = parse_meta_prediction(text, max_length=8192)
    assert prediction.pass_rate is None or 0 <= prediction.pass_rate <= 1
    assert prediction.length is None or 1 <= prediction.length <= 8192
    assert prediction.notions is None or all(prediction.notions)
    assert prediction.parsed == bool(prediction.found)


@given(ANY_TEXT)
@settings(max_examples=500, deadline=None)
def test_no_text_makes_the_parser_raise(text: str) -> None:
    check_any_text(text)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(ANY_TEXT)
@settings(max_examples=100_000, deadline=None, database=None, phases=[Phase.generate])
def test_no_text_of_a_hundred_thousand_makes_the_parser_raise(text: str) -> None:
    check_any_text(text)


@given(
    st.lists(st.text(st.characters(exclude_characters="\\\"'"), min_size=1, max_size=20), max_size=8),
    st.integers(0, 8),
    st.integers(1, 100_000),
)
@settings(max_examples=200, deadline=None)
def test_what_json_writes_is_read_back(names: list[str], rate: int, tokens: int) -> None:
    text = "<meta>x</meta>" + json.dumps({"notions": names, "pass_rate": rate, "solution_length": tokens})
    expected = tuple(dict.fromkeys(" ".join(name.split()) for name in names if name.split()))
    assert parse_meta_prediction(text) == MetaPrediction(expected, rate / 8, tokens)
