"""Rows that hold a conversation, and solution columns as TRL's data sets have them."""

from __future__ import annotations

from typing import Any

import pytest
from test_chat import CHATML, GEMMA, make_tokenizer

from masa.config import load_config
from masa.preflight import make_templates
from masa.problems import Problem, ProblemDataError, load_problems
from masa.problems.chat import ChatFormat, describe_chat
from masa.problems.encoding import leave_out_overlong
from masa.rollout.requests import RequestBuilder

SYSTEM = "You are a careful counter."
ASKED = {"role": "user", "content": "What is 1 + 1?"}


def one(row: dict[str, Any], **options: Any) -> Problem:
    (problem,) = load_problems([row], **options).problems
    return problem


@pytest.mark.parametrize("column", ["prompt", "messages", "question"])
@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_conversation_gives_its_question_and_keeps_its_system_message(column: str, role: str) -> None:
    problem = one({column: [{"role": role, "content": SYSTEM}, ASKED], "answer": "2"})
    assert (problem.statement, problem.system, problem.answer) == ("What is 1 + 1?", SYSTEM, "2")


def test_the_last_reply_of_a_conversation_is_its_solution_and_gives_the_answer() -> None:
    reply = {"role": "assistant", "content": "One and one: \\boxed{2}."}
    problem = one({"messages": [ASKED, reply]})
    assert (problem.answer, problem.solution, problem.system) == ("2", "One and one: \\boxed{2}.", None)
    assert one({"messages": [ASKED, reply], "answer": "3"}).answer == "3"


def test_content_in_text_parts_is_joined_and_images_are_refused() -> None:
    parts: list[dict[str, str]] = [{"type": "text", "text": "What is "}, {"type": "text", "text": "1 + 1?"}]
    assert one({"prompt": [{"role": "user", "content": parts}], "answer": 2}).statement == "What is 1 + 1?"
    with pytest.raises(ProblemDataError, match="content that is no text"):
        one({"prompt": [{"role": "user", "content": [{"type": "image"}]}], "answer": 2})


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([ASKED, ASKED], "prompt holds 2 messages of the role 'user', exactly one is allowed"),
        ([{"role": "system", "content": "a"}] * 2 + [ASKED], "prompt holds 2 system messages, at most one is allowed"),
        ([{"role": "tool", "content": "a"}, ASKED], "the role 'tool', allowed: system, developer, user, assistant"),
        ([ASKED, "What is 1 + 1?"], "messages with role and content are needed"),
    ],
)
def test_a_conversation_of_another_form_is_a_bad_row(messages: list[Any], told: str) -> None:
    with pytest.raises(ProblemDataError) as caught:
        one({"prompt": messages, "answer": "2"})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("So it is \\boxed{\\frac12}.", "\\frac12"),
        ("$\\frac{1}{2}$", "\\frac{1}{2}"),
        ("$$x + 1$$", "x + 1"),
        ("\\(x = 3\\)", "x = 3"),
        ("42", "42"),
        ("<think>6 by 7</think>\n<answer> 42 </answer>", "42"),
        ("<answer>$\\frac12$</answer>", "\\frac12"),
        ("Six by seven.\n#### 42", "42"),
    ],
)
def test_a_solution_column_without_an_answer_column_gives_the_answer(solution: str, answer: str) -> None:
    assert one({"prompt": [ASKED], "solution": solution}).answer == answer


@pytest.mark.parametrize("solution", ["It is two.", "$a$ and $b$", "<answer> </answer> and so on"])
def test_a_solution_that_gives_no_answer_is_a_bad_row(solution: str) -> None:
    with pytest.raises(ProblemDataError, match=r"no answer: .* nor do <answer> tags or a last line ####"):
        one({"problem": "What is 1 + 1?", "solution": solution})


def test_an_error_about_columns_names_the_one_that_is_likely_meant() -> None:
    with pytest.raises(ProblemDataError, match=r"as in problems\.columns\.statement=Query"):
        one({"Query": "What is 1 + 1?", "answer": "2"})
    with pytest.raises(ProblemDataError, match=r"as in problems\.columns\.answer=label"):
        one({"problem": "What is 1 + 1?", "label": "2"})


def decoded(builder: RequestBuilder, problem: Problem, path: Any) -> str:
    return builder.tokenizer.decode(builder.prompt_ids(problem, path))


def test_the_row_s_system_message_stands_before_its_solution_prompt_in_place_of_the_configured_one() -> None:
    config = load_config(None, {"prompts.system": "Be brief."})
    builder = RequestBuilder(config, make_templates(config), make_tokenizer(CHATML))
    own = one({"prompt": [{"role": "system", "content": SYSTEM}, ASKED], "answer": "2"})
    assert f"<|im_start|>system\n{SYSTEM}<|im_end|>" in decoded(builder, own, "solution")
    assert "Be brief." not in decoded(builder, own, "solution")
    # What a system message asks of solutions is not asked of predictions.
    assert "<|im_start|>system\nBe brief.<|im_end|>" in decoded(builder, own, "meta")
    plain = one({"prompt": [ASKED], "answer": "2"})
    assert "Be brief." in decoded(builder, plain, "solution")


def test_a_system_message_without_a_place_of_its_own_stands_at_the_head_of_the_prompt() -> None:
    own = one({"prompt": [{"role": "system", "content": SYSTEM}, ASKED], "answer": "2"})
    refusing = make_tokenizer(GEMMA)
    config = load_config(None)
    builder = RequestBuilder(config, make_templates(config), refusing)
    assert f"user\n{SYSTEM}\n\n" in decoded(builder, own, "solution")
    assert describe_chat(refusing, ChatFormat(), of_problems=True)[0].startswith("system messages of problems: ")
    assert describe_chat(refusing, ChatFormat()) == []
    bare = load_config(None, {"prompts.chat": False})
    assert decoded(RequestBuilder(bare, make_templates(bare), refusing), own, "solution").startswith(f"{SYSTEM}\n\n")


def test_the_row_s_system_message_counts_toward_the_length_of_its_prompt() -> None:
    short = one({"prompt": [ASKED], "answer": "2"})
    long = one(
        {"prompt": [{"role": "system", "content": "word " * 500}, {"role": "user", "content": "?"}], "answer": 1}
    )
    config = load_config(None)
    tokenizer = make_tokenizer(CHATML)
    builder = RequestBuilder(config, make_templates(config), tokenizer)
    most = len(builder.prompt_ids(short, "solution"))
    kept, left_out = leave_out_overlong(
        [long, short], builder.templates, tokenizer, most, format=builder.format, meta=False
    )
    assert kept == [short]
    assert left_out[0].solution_tokens == len(builder.prompt_ids(long, "solution"))
