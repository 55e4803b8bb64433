"""From one row to one Problem: the shapes of rows that are understood without any mapping, and mapped ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.problems.choices import choice_statement, letter_of, read_options
from masa.problems.errors import RowError, nearest, shown
from masa.problems.messages import Conversation, read_conversation
from masa.problems.problem import Problem
from masa.problems.statements import (
    answer_of_solution,
    bare_statement,
    split_worked_answer,
    statement_key,
    unix_lines,
)
from masa.problems.values import plain_value
from masa.problems.verifier_names import known_verifier

STATEMENT_COLUMNS = ("statement", "problem", "question", "prompt", "problem_text", "messages")
ANSWER_COLUMNS = ("answer", "final_answer", "target", "ground_truth", "gold")
SOLUTION_COLUMNS = ("solution", "code")
OPTION_COLUMNS = ("options", "choices")
ID_COLUMNS = ("id", "problem_id", "task_id", "unique_id", "question_id", "uid")
SOURCE_COLUMNS = ("data_source", "source")
# Columns that often hold a statement or an answer, and as often something else: named in errors, never read unasked.
_LIKELY_STATEMENTS = ("query", "instruction", "input", "task", "text", "content", "prompts")
_LIKELY_ANSWERS = ("label", "reference", "correct_answer", "expected", "result", "output", "response", "completion")
TEST_COLUMNS = ("test", "test_list")
SETUP_COLUMNS = ("test_setup_code", "test_imports")

_CONSUMED = frozenset(
    name
    for names in (STATEMENT_COLUMNS, ANSWER_COLUMNS, SOLUTION_COLUMNS, OPTION_COLUMNS, ID_COLUMNS, SOURCE_COLUMNS)
    for name in (*names, *TEST_COLUMNS, *SETUP_COLUMNS, "verifier", "context")
)
_LONGEST_METADATA = 200


@dataclass(frozen=True)
class Draft:
    """What a schema found in a row, before it is checked. ``answer`` None: the solution gives it."""

    statement: Any
    answer: Any
    verifier: str
    solution: Any = None
    options: Sequence[str] = ()


def problem_from_row(
    row: Mapping[str, Any], default_source: str, columns: Mapping[str, str] | None = None, verifier: str | None = None
) -> Problem:
    """The problem that a row holds.

    ``columns`` maps Problem fields (and ``options``) to columns; a dot leads into nested values. ``verifier`` takes
    the place of what the row and its schema say.

    Raises:
        RowError: the row is no problem; the message is the reason.
    """
    row = plain_value(row)
    if columns:
        row = _with_mapped_fields(row, columns)
    source = _text(first_of(row, SOURCE_COLUMNS) or default_source, "source")
    draft = _draft(row, mapped=not {"statement", "answer"}.isdisjoint(columns or {}))
    chosen = verifier or _row_verifier(row) or draft.verifier
    statement = _text(draft.statement, "statement")
    bare = bare_statement(statement)
    if not bare:
        raise RowError("the statement is empty")
    answer, solution = _answer_and_solution(draft, chosen)
    return Problem(
        id=_own_id(row, source) or statement_key(bare),
        statement=bare,
        answer=answer,
        source=source,
        verifier=chosen,
        solution=solution,
        system=_system_of(row),
        metadata={
            **{name: value for name, value in row.items() if name not in _CONSUMED and _is_short_scalar(value)},
            # The verifier then takes the right option's text as well as its letter.
            **({"options": list(draft.options)} if draft.options and chosen == "choice" else {}),
        },
    )


def lookup(row: Mapping[str, Any], path: str) -> Any:
    """The value of a column, or of a nested one where ``path`` has dots (``final_answer.0``); None where absent."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def first_of(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first value of the named columns that is not empty, or None."""
    for name in names:
        if not _is_empty(value := row.get(name)):
            return value
    return None


def _with_mapped_fields(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    values = {field: lookup(row, path) for field, path in columns.items()}
    for field in ("statement", "answer"):
        if field in values and _is_empty(values[field]):
            raise RowError(f"no {field}: its column {columns[field]!r} is empty")
    return {**row, **values}


def _draft(row: Mapping[str, Any], mapped: bool) -> Draft:
    if isinstance(row.get("reward_model"), Mapping) and not mapped:
        return _from_reward_model(row, row["reward_model"])
    if (options := first_of(row, OPTION_COLUMNS)) is not None:
        return _from_choice(row, options)
    if (tests := first_of(row, TEST_COLUMNS)) is not None and not mapped:
        return _from_tests(row, tests)
    return _from_plain(row)


def _from_reward_model(row: Mapping[str, Any], reward_model: Mapping[str, Any]) -> Draft:
    """Rows of a chat ``prompt`` and ``reward_model.ground_truth``: a mapping (question, solution, target) or a text."""
    truth = reward_model.get("ground_truth")
    fields = truth if isinstance(truth, Mapping) else {}
    question = fields.get("question")
    return Draft(
        statement=question if not _is_empty(question) else _statement_of(row),
        answer=first_of(fields, ANSWER_COLUMNS) if fields else truth,
        verifier="math",
        solution=first_of(row, SOLUTION_COLUMNS) or first_of(fields, SOLUTION_COLUMNS),
    )


def _from_choice(row: Mapping[str, Any], raw_options: Any) -> Draft:
    options = read_options(raw_options)
    statement = choice_statement(
        _text(row.get("context") or "", "context"), _text(_statement_of(row), "question"), options
    )
    answer = first_of(row, (*ANSWER_COLUMNS, "answerKey", "label"))
    explanation = row.get("explanation")
    if isinstance(explanation, list):
        explanation = "\n".join(map(str, explanation))
    solution = first_of(row, SOLUTION_COLUMNS) or explanation
    letter = None if answer is None else letter_of(answer, options)
    return Draft(statement, letter, "choice", solution, options=options.texts)


def _from_tests(row: Mapping[str, Any], tests: Any) -> Draft:
    answer: dict[str, Any] = {"asserts": _assert_list(tests)}
    setup = first_of(row, SETUP_COLUMNS)
    if setup is not None:
        lines = setup if isinstance(setup, list) else [setup]
        answer["setup"] = "\n".join(_text(line, "set-up of the tests") for line in lines)
    task = _text(first_of(row, ("prompt", "text")) or _statement_of(row), "statement")
    shown_tests = "\n".join(answer["asserts"])
    return Draft(
        statement=f"{task.strip()}\n\nYour code should pass these tests:\n\n{shown_tests}",
        answer=answer,
        verifier="code",
        solution=first_of(row, SOLUTION_COLUMNS),
    )


def _from_plain(row: Mapping[str, Any]) -> Draft:
    statement = _statement_of(row)
    answer = first_of(row, ANSWER_COLUMNS)
    solution = first_of(row, SOLUTION_COLUMNS)
    if solution is None and (chat := _conversation_of(row)):
        solution = chat.reply
    if answer is None and _is_empty(solution) and not any(name in row for name in (*ANSWER_COLUMNS, *SOLUTION_COLUMNS)):
        raise RowError(_no_column("answer", ANSWER_COLUMNS, row, _LIKELY_ANSWERS))
    if isinstance(answer, str) and (worked := split_worked_answer(answer)):
        solution, answer = solution or worked[0], worked[1]
    verifier = "code" if isinstance(answer, Mapping) else "math"
    return Draft(statement, answer, verifier, solution)


def _statement_of(row: Mapping[str, Any]) -> Any:
    for name in STATEMENT_COLUMNS:
        value = row.get(name)
        if isinstance(value, list):
            return read_conversation(value, name).question
        if not _is_empty(value):
            return value
    if any(name in row for name in STATEMENT_COLUMNS):
        raise RowError("the statement is empty")
    raise RowError(_no_column("statement", STATEMENT_COLUMNS, row, _LIKELY_STATEMENTS))


def _conversation_of(row: Mapping[str, Any]) -> Conversation | None:
    """The conversation that the row's first statement column holds, where it holds one."""
    name = next((name for name in STATEMENT_COLUMNS if not _is_empty(row.get(name))), None)
    return read_conversation(row[name], name) if name is not None and isinstance(row[name], list) else None


def _system_of(row: Mapping[str, Any]) -> str | None:
    try:
        chat = _conversation_of(row)
    except RowError:
        return None  # the statement stands elsewhere in the row, or there would be none by now
    return None if chat is None or chat.system is None else unix_lines(_text(chat.system, "system message"))


def _answer_and_solution(draft: Draft, verifier: str) -> tuple[Any, str | None]:
    solution = None if _is_empty(draft.solution) else unix_lines(_text(draft.solution, "solution"))
    answer = draft.answer
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if _is_empty(answer) and solution is not None:
        answer = answer_of_solution(solution)
        if not answer:
            raise RowError(
                "no answer: it is empty or absent, and the solution's last \\boxed{} gives none, nor do <answer> tags "
                "or a last line ####, and the solution is no formula or single word that would be the answer itself"
            )
    if _is_empty(answer):
        raise RowError("no answer: it is empty")
    return check_answer(answer, verifier), solution


def check_answer(answer: Any, verifier: str) -> Any:
    """``answer`` in the form that the verifier compares with.

    Raises:
        RowError: an answer that this verifier cannot use.
    """
    if ":" in verifier:
        return answer
    if verifier == "code":
        return _code_answer(answer)
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise RowError(f"the answer is {shown(answer)}; the verifier {verifier!r} needs a text or a number")
    if isinstance(answer, float) and not math.isfinite(answer):
        raise RowError(f"the answer is {answer}, not a finite number")
    if verifier == "choice":
        return letter_of(answer, None)
    return _text(answer, "answer").strip()


def _code_answer(answer: Any) -> Any:
    if isinstance(answer, list) or (isinstance(answer, str) and answer.lstrip().startswith("assert ")):
        return {"asserts": _assert_list(answer)}
    if isinstance(answer, str):
        try:
            answer = json.loads(answer)
        except ValueError:
            answer = {"found": answer}
    cases = {name: answer[name] for name in ("asserts", "cases") if isinstance(answer, Mapping) and answer.get(name)}
    if len(cases) != 1 or not all(isinstance(value, list) for value in cases.values()):
        raise RowError(f"the answer is {shown(answer)}; the verifier 'code' needs a list of asserts or of cases")
    return answer


def _assert_list(tests: Any) -> list[str]:
    lines = [tests] if isinstance(tests, str) else tests
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) and line.strip() for line in lines):
        raise RowError(f"the tests are {shown(tests)}, a list of assert statements is needed")
    return [unix_lines(line).strip() for line in lines]


def _row_verifier(row: Mapping[str, Any]) -> str | None:
    value = row.get("verifier")
    if _is_empty(value):
        return None
    try:
        return known_verifier(value)
    except ValueError as error:
        raise RowError(str(error)) from None


def _own_id(row: Mapping[str, Any], source: str) -> str | None:
    own = first_of(row, ID_COLUMNS)
    extra = row.get("extra_info")
    if own is None and isinstance(extra, Mapping) and not _is_empty(extra.get("index")):
        own = f"{extra['split']}/{extra['index']}" if extra.get("split") else extra["index"]
        return f"{source}/{own}"
    if own is None:
        return None
    if isinstance(own, bool | float | list | Mapping):
        raise RowError(f"the id is {shown(own)}, a text or a whole number is needed")
    # A bare number counts the rows of one source; without the source's name two sources would share their ids.
    return f"{source}/{own}" if str(own).isdigit() else _text(own, "id")


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowError(f"the {what} is {shown(value)} ({type(value).__name__}), text is needed")
    if isinstance(value, float) and not math.isfinite(value):
        raise RowError(f"the {what} is {value}, text is needed; spreadsheets and data frames write so what is missing")
    text = str(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError(f"the {what} holds a lone surrogate, which no tokenizer can encode") from None
    return text


def _no_column(what: str, allowed: tuple[str, ...], row: Mapping[str, Any], likely: tuple[str, ...]) -> str:
    found = [str(name) for name in row]
    guess = next((column for name in likely for column in found if column.lower() == name), None)
    near = next((hint for name in allowed if (hint := nearest(name, found))), "")
    return (
        f"no {what}: none of the columns {', '.join(allowed)} is there; found {', '.join(found) or 'no column'}{near}; "
        f"problems.columns can name it{f', as in problems.columns.{what}={guess}' if guess else ''}"
    )


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, list | tuple | dict) and not value)


def _is_short_scalar(value: Any) -> bool:
    return (isinstance(value, str) and 0 < len(value) <= _LONGEST_METADATA) or isinstance(value, int | float)
