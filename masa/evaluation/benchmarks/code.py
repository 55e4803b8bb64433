"""Programs judged by running them, and CRUXEval's predicted outputs."""

from __future__ import annotations

from dataclasses import replace

from masa.evaluation.benchmarks.benchmark import Benchmark, Reading, Row, known_schema, text_of
from masa.evaluation.benchmarks.livecodebench import read_livecodebench
from masa.problems.errors import RowError, shown
from masa.problems.problem import Problem

# CRUXEval asks for a value and not for a program, so the common template for code does not fit.
_OUTPUT_TEMPLATE = """{{ problem }}

Work out step by step what the call evaluates to. Then give the value alone, as a Python literal, between [ANSWER] and [/ANSWER].{% if hint %}

These notions may help: {{ hint }}{% endif %}
"""  # noqa: E501 (a line of the template is a line of the prompt)


# The tests of task 367 speak of three trees that only the column test_setup_code builds; files without that column lack
# them. Of these the first and the last are unbalanced, as the tests say.
_TREES_TASK = "367"
_TREES = """
root, root1, root2 = Node(1), Node(1), Node(1)
for tree in (root, root1, root2):
    tree.left, tree.right = Node(2), Node(3)
    tree.left.left, tree.left.right = Node(4), Node(5)
    tree.left.left.left = Node(7)
root1.right.left = Node(6)
""".strip()


def _read_mbpp(row: Row, reading: Reading) -> Problem:
    problem = known_schema(row, reading)
    if str(row.get("task_id")) == _TREES_TASK and not row.get("test_setup_code"):
        return replace(problem, answer={"asserts": [_TREES, *problem.answer["asserts"]]})
    return problem


def _read_humaneval_plus(row: Row, reading: Reading) -> Problem:
    prompt, test, entry = text_of(row, "prompt"), text_of(row, "test"), text_of(row, "entry_point")
    return _program(
        reading,
        row,
        f"Complete this Python function.\n\n```python\n{prompt.strip()}\n```",
        [f"{test.strip()}\n\ncheck({entry})"],
        solution=f"{prompt}{text_of(row, 'canonical_solution')}",
    )


def _read_mbpp_plus(row: Row, reading: Reading) -> Problem:
    shown_tests = row.get("test_list")
    if not isinstance(shown_tests, list) or not shown_tests:
        raise RowError(f"column 'test_list' is {shown(shown_tests)}, a list of asserts is needed")
    statement = "\n".join(
        [text_of(row, "prompt").strip(), "", "Your code should pass these tests:", "", *map(str, shown_tests)]
    )
    return _program(reading, row, statement, [text_of(row, "test").strip()], solution=text_of(row, "code"))


def _read_cruxeval(row: Row, reading: Reading) -> Problem:
    code, call, output = text_of(row, "code"), row.get("input"), text_of(row, "output")
    if not isinstance(call, str):
        raise RowError(f"column 'input' is {shown(call)}, the arguments of a call are needed")
    return Problem(
        id=reading.problem_id(row.get("id")),
        statement=f"```python\n{code.strip()}\n```\n\nWhat does the call f({call}) return?",
        answer=output,
        source=reading.benchmark.name,
        verifier=reading.benchmark.verifier,
    )


def _program(reading: Reading, row: Row, statement: str, asserts: list[str], solution: str) -> Problem:
    return Problem(
        id=reading.problem_id(row.get("task_id")),
        statement=statement,
        answer={"asserts": asserts},
        source=reading.benchmark.name,
        verifier="code",
        solution=solution,
    )


HUMANEVAL_PLUS = Benchmark(
    name="humaneval_plus",
    title="HumanEval+",
    hub="evalplus/humanevalplus",
    columns=("task_id", "prompt", "canonical_solution", "entry_point", "test"),
    verifier="code",
    licence="Apache-2.0",
    rows=164,
    read=_read_humaneval_plus,
)
MBPP_PLUS = Benchmark(
    name="mbpp_plus",
    title="MBPP+",
    hub="evalplus/mbppplus",
    columns=("task_id", "prompt", "code", "test_list", "test"),
    verifier="code",
    licence="Apache-2.0",
    rows=378,
    read=_read_mbpp_plus,
)
CRUXEVAL_O = Benchmark(
    name="cruxeval_o",
    title="CRUXEval-O",
    hub="cruxeval-org/cruxeval",
    columns=("id", "code", "input", "output"),
    verifier="masa.evaluation.verifiers.literals:python_literal",
    licence="MIT",
    rows=800,
    read=_read_cruxeval,
    template=_OUTPUT_TEMPLATE,
)
MBPP = Benchmark(
    name="mbpp",
    title="MBPP",
    hub="google-research-datasets/mbpp:full",
    columns=("task_id", "text (or prompt)", "code", "test_list (or test)"),
    verifier="code",
    licence="CC BY 4.0",
    rows=500,
    read=_read_mbpp,
)
LIVECODEBENCH = Benchmark(
    name="livecodebench",
    title="LiveCodeBench",
    hub="livecodebench/code_generation_lite:release_v5",
    columns=(
        "question_id",
        "question_content",
        "starter_code",
        "public_test_cases",
        "private_test_cases",
        "metadata",
    ),
    verifier="code",
    licence="CC (as the data set says)",
    rows=880,
    read=read_livecodebench,
)

CODE = (HUMANEVAL_PLUS, MBPP_PLUS, CRUXEVAL_O, MBPP, LIVECODEBENCH)
