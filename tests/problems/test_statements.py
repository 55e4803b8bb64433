"""A statement is bare: the requests that data sets put around it are stripped, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masa.problems.statements import bare_statement, last_boxed, split_worked_answer, statement_key

BARE = "Determine $[(1 \\otimes 2) \\otimes 3]$."


@pytest.mark.parametrize(
    "request_text",
    [
        "Let's think step by step and output the final answer within \\boxed{}.",
        "Let’s think step-by-step.",
        "Please reason step by step, and put your final answer within \\boxed{}.",
        "Please reason step by step. Put your final answer in \\boxed{your answer}.",
        "Think step by step and then write the answer in \\boxed{}",
        "Your final answer should be given within \\boxed{}.",
        "Make sure the final result is in \\boxed{answer}.",
        "Let's think step by step.\nReturn your answer inside \\boxed{}!",
    ],
)
@pytest.mark.parametrize("gap", [" ", "\n", "\n\n"])
def test_a_request_after_the_statement_is_stripped(request_text: str, gap: str) -> None:
    assert bare_statement(f"{BARE}{gap}{request_text}") == BARE


def test_a_request_is_stripped_where_the_statement_ends_without_a_stop() -> None:
    text = "Find $x$ with 2x = 4 Please reason step by step, and put your final answer within \\boxed{}."
    assert bare_statement(text) == "Find $x$ with 2x = 4"


def test_the_requests_around_a_dapo_problem_are_stripped() -> None:
    text = (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        "$Answer (without quotes) where $Answer is the answer to the problem.\n\nIn triangle $ABC$, find $AB$.\n\n"
        'Remember to put your answer on its own line after "Answer:".'
    )
    assert bare_statement(text) == "In triangle $ABC$, find $AB$."


@pytest.mark.parametrize(
    "statement",
    [
        "Write the number 12 as a product of primes.",
        "Show that the answer is 4.",
        "Fill in the blank: $2 + 2 = \\boxed{\\phantom{4}}$.",
        "What number goes in the box? $\\boxed{}$",
        "A robot climbs a ladder step by step. How many steps are there after 5 minutes?",
        "Evaluate $\\boxed{3} + \\boxed{4}$, where the solution is an integer.",
        "Explain. The answer is \\boxed{}.",
        "Let's think about the sequence $a_n$. Find $a_5$.",
        "Think step by step.",
        "Give your answer as a common fraction.",
    ],
)
def test_a_statement_without_such_a_request_is_left_as_it_is(statement: str) -> None:
    assert bare_statement(statement) == statement


def test_line_ends_and_outer_white_space_are_made_uniform() -> None:
    assert bare_statement("\r\n First.\r\nSecond. \n") == "First.\nSecond."


@given(st.text())
def test_stripping_twice_changes_nothing_more(text: str) -> None:
    assert bare_statement(bare_statement(text)) == bare_statement(text)


def test_stripping_a_long_hostile_statement_takes_no_time() -> None:
    hostile = "put the answer " * 40_000 + "\\boxed{" * 1000
    assert bare_statement(hostile) == hostile


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        ("so $\\boxed{4}$.", "4"),
        ("\\boxed{1}, then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed {\n7\n}", "7"),
        ("\\fbox{9}", "9"),
        ("\\boxed{}", ""),
        ("\\boxed{3} and \\boxed{4", "3"),
        ("nothing", None),
    ],
)
def test_the_last_balanced_box_is_found(text: str, boxed: str | None) -> None:
    assert last_boxed(text) == boxed


def test_a_worked_answer_is_split_at_its_last_line() -> None:
    text = "Half of 48 is 48/2 = <<48/2=24>>24.\nIn all 1,000.\n#### 1,024"
    assert split_worked_answer(text) == ("Half of 48 is 48/2 = 24.\nIn all 1,000.", "1024")


@pytest.mark.parametrize(("line", "answer"), [("#### -3", "-3"), ("####42", "42"), ("#### 1,2", "1,2")])
def test_only_thousands_separators_leave_the_answer(line: str, answer: str) -> None:
    assert split_worked_answer(line) == ("", answer)


@pytest.mark.parametrize("text", ["42", "#### 1\nand more", "a #### 3"])
def test_any_other_text_is_no_worked_answer(text: str) -> None:
    assert split_worked_answer(text) is None


def test_statements_that_differ_in_white_space_alone_share_a_key() -> None:
    assert statement_key("a  b\n") == statement_key("a b")
    assert statement_key("a b") != statement_key("A b")
