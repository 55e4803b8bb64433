"""What a cold start writes: notions out of the policy's own solutions, and meta-predictions that read back."""

from functools import partial

import pytest

from masa.cold_start.notions import telling_notions
from masa.cold_start.written_metas import MeasuredFacts, MetaWriter, read_form, read_thoughts
from masa.config import ConfigError, load_config
from masa.rewards.alignment import SolutionGroup, score_metas
from masa.rewards.meta_prediction import MetaPrediction, parse_meta_prediction

KEYS = load_config(None, []).prompts.meta_keys
FORM = load_config(None, []).cold_start.response
GROUP = SolutionGroup(
    0.5,
    (20, 22),
    ("Carry the ten, then add the units digits: 31.", "The units give 11, so carry the ten. The answer is 31."),
    ("Add the digits: 211.", "I add and get 21."),
    "What is 14 + 17? Give the units first.",
)


def test_notions_are_what_correct_solutions_say_and_wrong_ones_and_the_statement_do_not() -> None:
    found = telling_notions(GROUP, most=3, count="count")
    assert found[0] == "carry"
    assert not {"units", "digits", "add"} & set(found)
    for notion in found:
        assert score_metas([MetaPrediction((notion,))], GROUP)[0].notion == 1.0


def test_no_notion_is_found_where_no_solution_is_correct_or_none_is_wanted() -> None:
    assert telling_notions(SolutionGroup(0.0, (), (), ("carry the ten",)), most=3, count="count") == []
    assert telling_notions(GROUP, most=0, count="count") == []


def test_notions_are_matched_as_rewards_match_them() -> None:
    pytest.importorskip("simplemma", reason="the package simplemma is not installed (extra lemma)")
    group = SolutionGroup(0.5, (9,), ("factoring",), ("nothing",), "Which factors?")
    assert telling_notions(group, most=3, count="count", match="form") == ["factoring"]
    assert telling_notions(group, most=3, count="count", match="lemma") == []


def test_notions_do_not_overlap() -> None:
    group = SolutionGroup(1.0, (9,), ("prime factors multiply",), (), "q")
    found = telling_notions(group, most=3, count="rate")
    words = [word for notion in found for word in notion.split()]
    assert len(words) == len(set(words))
    assert set(words) == {"prime", "factors", "multiply"}


@pytest.mark.parametrize("notions", [(), ("carry",), ("carry", "prime factors")])
@pytest.mark.parametrize("pass_rate", [0, 3, 8])
def test_every_thought_leads_to_a_prediction_that_reads_back(notions: tuple[str, ...], pass_rate: int) -> None:
    writer = MetaWriter(
        read_form(FORM), read_thoughts(None), KEYS, 8, partial(parse_meta_prediction, pass_rate_total=8)
    )
    texts = {writer.write(MeasuredFacts(pass_rate, 57, notions), variant) for variant in range(writer.variants)}
    assert len(texts) == writer.variants > 3
    for text in texts:
        assert parse_meta_prediction(text) == MetaPrediction(notions, pass_rate / 8, 57)


def test_thoughts_that_break_the_prediction_are_refused(tmp_path) -> None:
    file = tmp_path / "thoughts.txt"
    file.write_text("Fine.\nI think </meta> so.\n")
    writer = MetaWriter(
        read_form(FORM), read_thoughts(str(file)), KEYS, 8, lambda text: parse_meta_prediction(text.split("</meta>")[1])
    )
    writer.write(MeasuredFacts(3, 57, ()), 0)
    with pytest.raises(ConfigError, match="line 2"):
        writer.write(MeasuredFacts(3, 57, ()), 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no template"),
        ("{{ notion }}", "line 1 .*know notions, pass_rate, pass_rate_total, solution_length"),
        ("fine\n{% if %}", "line 2"),
    ],
)
def test_a_file_of_thoughts_that_cannot_work_is_refused_with_its_line(tmp_path, text: str, message: str) -> None:
    file = tmp_path / "thoughts.txt"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_thoughts(str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_thoughts(str(tmp_path / "nothing.txt"))
