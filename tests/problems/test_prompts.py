"""Prompts: what the built-in templates ask for, and templates that are wrong in every way a user can get them wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from masa.config import ConfigError
from masa.problems import Problem
from masa.problems.prompts import PromptTemplateError, PromptTemplates

MATH = Problem(id="m", statement="What is $1 + 1$?", answer="2", source="hand")
CHOICE = Problem(id="c", statement="Which one?\n\nA) this\nB) that", answer="A", verifier="choice")
CODE = Problem(id="k", statement="Write f.", answer={"asserts": ["assert f() == 1"]}, verifier="code")


def make(solution: str = "default", meta: str = "default", **options: object) -> PromptTemplates:
    return PromptTemplates(solution, meta, **{"response_limit": 8192, **options})  # type: ignore[arg-type]


def test_the_default_solution_prompt_of_a_math_problem() -> None:
    expected = "What is $1 + 1$?\n\nReason step by step, and put the final answer within \\boxed{}."
    assert make().render_solution(MATH) == expected


def test_the_default_solution_prompt_asks_each_verifier_s_own_answer_format() -> None:
    templates = make()
    assert templates.render_solution(CHOICE).endswith("the letter of the right option within \\boxed{}.")
    assert "one Python code block" in templates.render_solution(CODE)
    assert "boxed" not in templates.render_solution(CODE)


def test_a_hint_is_appended_to_the_default_solution_prompt_and_absent_without_one() -> None:
    templates = make()
    plain, hinted = templates.render_solution(MATH), templates.render_solution(MATH, hint="addition, carrying")
    assert hinted == plain + "\n\nThese notions may help: addition, carrying"
    assert templates.render_solution(MATH, hint="") == plain


def test_the_default_meta_prompt_asks_for_the_three_predictions_in_their_ranges() -> None:
    text = make(response_limit=4096).render_meta(MATH)
    assert MATH.statement in text
    assert "between <meta> and </meta>" in text
    assert '"pass_rate": an integer from 0 to 8,' in text
    assert '"solution_length": an integer from 128 to 4096,' in text
    assert '{"notions": ["...", "..."], "pass_rate": ..., "solution_length": ...}' in text


def test_the_range_of_lengths_holds_something_where_the_response_limit_is_small() -> None:
    assert "an integer from 1 to 96," in make(response_limit=96).render_meta(MATH)
    assert "an integer from 1 to 128," in make(response_limit=128).render_meta(MATH)


def test_keys_and_total_of_the_meta_prompt_follow_the_configuration() -> None:
    templates = PromptTemplates.from_config(
        solution="default",
        meta="default",
        keys={"notions": "math_notion", "pass_rate": "rate", "solution_length": "tokens"},
        pass_rate_total=16,
        response_limit=2048,
    )
    text = templates.render_meta(MATH)
    assert '{"math_notion": ["...", "..."], "rate": ..., "tokens": ...}' in text
    assert "from 0 to 16, how many of your 16 solutions" in text


def test_the_embedded_templates_are_those_of_the_embedded_world() -> None:
    from masa.embedded.templates import META_TEMPLATE, SOLUTION_TEMPLATE

    templates = make("embedded", "embedded")
    assert templates.render_solution(MATH) == SOLUTION_TEMPLATE.replace("{{ problem }}", MATH.statement)
    assert templates.render_meta(MATH) == META_TEMPLATE.replace("{{ problem }}", MATH.statement)


def test_template_marks_inside_a_statement_are_left_as_they_are() -> None:
    problem = Problem(id="x", statement="Expand {{ x }} and {% raw %} {# c #} <b>&amp;</b>.", answer="0")
    assert make("{{ problem }}").render_solution(problem) == problem.statement


def test_an_inline_template_sees_every_variable() -> None:
    text = "{{ problem }}|{{ source }}|{{ verifier }}|{{ response_limit }}|{{ pass_rate_total }}|{{ keys.notions }}"
    assert make(text).render_solution(MATH) == "What is $1 + 1$?|hand|math|8192|8|notions"


@pytest.mark.parametrize("mark", ["@", ""])
def test_a_template_is_read_from_a_file(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "solution.j2"
    path.write_text("Q: {{ problem }}\nA:\n", encoding="utf-8")
    assert make(f"{mark}{path}").render_solution(MATH) == "Q: What is $1 + 1$?\nA:"


def test_a_template_error_is_a_config_error() -> None:
    assert issubclass(PromptTemplateError, ConfigError)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ problem }}\n{{ problm }}", r"inline\), line 2: unknown variable 'problm' \(nearest: 'problem'\)"),
        ("{{ problem }}\n\n{% if %}", r"inline\), line 3: Expected an expression"),
        ("{{ problem }}\n{% if hint %}", r"line 2: Unexpected end of template.*'if'"),
        ("{{ problem | shout }}", "line 1: No filter named 'shout'"),
        ("{{ problem }}\n{{ keys.notion }}", r"line 2: cannot be rendered: .*'notion'"),
        ("{{ problem }}\n{{ 1 // 0 }}", "line 2: cannot be rendered"),
        ("{{ problem.__class__ }}", "line 1: cannot be rendered: .*unsafe"),
        ("{% for i in range(9999999) %}{{ problem }}{% endfor %}", "cannot be rendered: Range too big"),
        ("{% include 'x' %}{{ problem }}", "cannot be rendered"),
        ("Solve it!\n", r"does not hold \{\{ problem \}\}"),
        ("defualt", r"found 'defualt' \(nearest: 'default'\), allowed: one of 'default', 'paper', 'embedded', 'emb"),
        ("", "found '', allowed"),
        ("@nowhere.txt", "'nowhere.txt': cannot be read: No such file"),
        ("prompts/nowhere.j2", "cannot be read: No such file"),
    ],
)
def test_a_wrong_solution_template_is_told_with_its_place(template: str, told: str) -> None:
    with pytest.raises(PromptTemplateError, match=f"solution template.*{told}"):
        make(template)


def test_an_error_only_one_verifier_or_only_a_hint_would_meet_is_told_at_once() -> None:
    with pytest.raises(PromptTemplateError, match="line 2"):
        make("{{ problem }}\n{% if verifier == 'code' %}{{ keys.nothing }}{% endif %}")
    with pytest.raises(PromptTemplateError, match="line 1"):
        make("{{ problem }}{% if hint %}{{ keys.nothing }}{% endif %}")


def test_a_hint_is_no_variable_of_the_meta_template() -> None:
    with pytest.raises(PromptTemplateError, match=r"meta template.*unknown variable 'hint'"):
        make(meta="{{ problem }} {{ hint }}")


def test_a_template_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.txt"
    path.write_bytes(b"{{ problem }} \xff")
    with pytest.raises(PromptTemplateError, match=r"is not UTF-8 text: .* at byte 14"):
        make(f"@{path}")


def test_a_hint_for_a_template_without_a_place_for_it_is_refused() -> None:
    templates = make("{{ problem }}")
    assert not templates.uses_hint
    with pytest.raises(PromptTemplateError, match="a hint would be lost"):
        templates.render_solution(MATH, hint="addition")
