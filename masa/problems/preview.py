"""What `masa problems` shows: rows, the first problems and their prompts, lengths, and verified gold answers."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from masa.config import Config
from masa.problems.errors import shown as cut
from masa.problems.gym import GYM_VERIFIER, answer_of
from masa.problems.problem import Problem
from masa.problems.report import LoadedProblems, LoadReport

if TYPE_CHECKING:
    from rich.console import Console

_ROWS_SHOWN = 5
_STATEMENT_CHARACTERS = 300


def show_preview(
    console: Console,
    config: Config,
    loaded: LoadedProblems,
    *,
    shown: int,
    verified: int,
    with_tokens: bool,
    planned: bool = False,
) -> None:
    """Print the preview of loaded problems.

    Args:
        shown: problems that are shown; the prompts are those of the first one.
        verified: gold answers that are verified, of each verifier.
        with_tokens: count lengths in tokens of the tokenizer of ``model.path``, else in characters.
        planned: show what a run of ``config`` on these problems takes at most, with the numbers of a dry run.

    Raises:
        ConfigError: a template or tokenizer that cannot work, or a verifier that cannot run here.
    """
    from masa.preflight import check_verifiers, make_templates

    templates = make_templates(config)
    check_verifiers(loaded.problems)
    for line in [*row_lines(loaded.report, len(loaded.problems)), *kind_lines(loaded.problems)]:
        _print(console, line)
    for problem in loaded.problems[:shown]:
        _print(console, "")
        for line in problem_lines(problem):
            _print(console, line)
    first = loaded.problems[0]
    prompts = {"solution": templates.render_solution(first), "meta": templates.render_meta(first)}
    for kind, text in prompts.items():
        _print(console, f"\nThe {kind} prompt of {first.id}, before the chat template:\n{text}")
    _print(console, "")
    for line in length_lines(config, templates, loaded.problems, with_tokens):
        _print(console, line)
    for line in gold_lines(config, loaded.problems, verified):
        _print(console, line)
    for line in plan_lines(config, templates, loaded.problems) if planned else []:
        _print(console, line)


def row_lines(report: LoadReport, problems: int) -> list[str]:
    """What became of the rows: problems, bad rows, duplicates, and duplicates with another answer."""
    lines = [f"{report.source}: {report.rows_read:,} rows read, {problems:,} problems"]
    if bad := report.bad_rows:
        lines.append(f"{len(bad):,} rows are no problem; a run refuses them unless problems.on_bad_row=skip:")
        lines += [f"  row {row.index}: {row.reason}" for row in bad[:_ROWS_SHOWN]]
        lines += ["  ..."] if len(bad) > _ROWS_SHOWN else []
    if report.duplicates:
        lines.append(f"{report.duplicates:,} rows repeat an earlier statement and are left out")
    if report.conflicting_duplicates:
        lines.append(f"{len(report.conflicting_duplicates):,} of them have {report.conflicts}")
    if report.repeated_ids:
        lines.append(f"{report.repeated_ids:,} rows have an id that an earlier row has; a suffix was added to theirs")
    return lines


def kind_lines(problems: Sequence[Problem]) -> list[str]:
    """How many problems each verifier has, and how many have a solution or a system message of their own."""
    verifiers = Counter(problem.verifier for problem in problems)
    return [
        "Verifiers: " + ", ".join(f"{name} {count:,}" for name, count in verifiers.most_common()),
        f"With a solution: {sum(problem.solution is not None for problem in problems):,}; with a system message: "
        f"{sum(problem.system is not None for problem in problems):,}",
    ]


def problem_lines(problem: Problem) -> list[str]:
    """One problem as it was read; a long statement is cut, and the line says so."""
    text = problem.statement
    if len(text) > _STATEMENT_CHARACTERS:
        text = f"{text[:_STATEMENT_CHARACTERS]}... ({len(problem.statement):,} characters)"
    system = [] if problem.system is None else [f"  system message: {cut(problem.system, 100)}"]
    return [
        f"{problem.id} (verifier {problem.verifier})",
        *system,
        f"  {text}",
        f"  answer: {cut(answer_of(problem), 100)}",
    ]


def length_lines(config: Config, templates: Any, problems: Sequence[Problem], with_tokens: bool) -> list[str]:
    """Shortest, median and longest prompts; in tokens also how many are over ``prompts.max_tokens``."""
    if not with_tokens:
        lengths = [len(templates.render_solution(problem)) for problem in problems]
        return [_lengths("Solution prompts", lengths, "characters") + "; model.path=FOLDER counts tokens"]
    from masa.model.loading import load_tokenizer
    from masa.problems.chat import ChatFormat
    from masa.problems.encoding import prompt_lengths

    tokenizer, chat = load_tokenizer(config.model), ChatFormat.of(config.prompts)
    solution = prompt_lengths(tokenizer, problems, templates, "solution", chat)
    meta = prompt_lengths(tokenizer, problems, templates, "meta", chat)
    limit = config.prompts.max_tokens
    over = sum(max(pair) > limit for pair in zip(solution, meta, strict=True))
    return [
        _lengths("Solution prompts", solution, "tokens"),
        _lengths("Meta prompts", meta, "tokens"),
        f"Problems with a prompt over prompts.max_tokens ({limit:,}), which a run leaves out: {over:,}",
    ]


def plan_lines(config: Config, templates: Any, problems: Sequence[Problem]) -> list[str]:
    """Steps, tokens and, where it can be estimated, time of a run of ``config`` on these problems, at most.

    Evaluations are not counted: held-out problems are read by a dry run.
    """
    from masa.model.loading import load_tokenizer
    from masa.planning.estimate import estimated_time
    from masa.planning.tokens import token_rows
    from masa.preflight import longest_prompt, plan_step, total_steps
    from masa.rollout.requests import RequestBuilder
    from masa.rollout.room import load_model_config

    if len(problems) < config.algorithm.num_problems:
        return [
            f"A step of this configuration takes {config.algorithm.num_problems:,} problems (algorithm.num_problems), "
            f"and {len(problems):,} are here"
        ]
    longest = longest_prompt(config, RequestBuilder(config, templates, load_tokenizer(config.model)), problems)
    longest = min(longest, config.prompts.max_tokens)
    steps = total_steps(config, problems)
    tokens = token_rows(config, plan_step(config, longest), 0, longest, steps)
    lines = [
        f"A run of this configuration on these problems: {steps:,} steps of {config.algorithm.num_problems:,} problems",
        *(f"  {name}: {value}" for name, value in tokens.items()),
    ]
    model_config = load_model_config(config.model)
    time = estimated_time(config, model_config, longest=longest, held_out=0, steps=(0, steps)) if model_config else None
    return [*lines, f"  {time}"] if time else lines


def gold_lines(config: Config, problems: Sequence[Problem], count: int) -> list[str]:
    """What each verifier says of the gold answers of its first ``count`` problems, given as a response gives them."""
    from masa.rewards.grading import verifier_item
    from masa.rewards.pool import VerifierPool

    chosen: dict[str, list[tuple[Problem, str]]] = {}
    for problem in problems:
        tried = chosen.setdefault(problem.verifier, [])
        if len(tried) < count:
            response = gold_response(problem)
            if response is not None:
                tried.append((problem, response))
    pairs = [pair for tried in chosen.values() for pair in tried]
    if not count:
        return []
    verdicts = []
    if pairs:
        with VerifierPool.of(config.rewards.model_copy(update={"verifier_workers": 1})) as pool:
            verdicts = pool.verify([verifier_item(problem, response) for problem, response in pairs])
    lines = []
    judged = list(zip(pairs, verdicts, strict=True))
    for name, tried in chosen.items():
        if not tried:
            lines.append(f"Gold answers, {name}: none verified, no problem has a solution to run")
            continue
        own = [(problem, verdict) for (problem, _), verdict in judged if problem.verifier == name]
        right = sum(verdict.correct for _, verdict in own)
        lines.append(f"Gold answers, {name}: {right} of {len(own)} are judged correct")
        lines += [
            f"  {problem.id}: {cut(answer_of(problem), 100)} is judged {verdict.status}"
            + (f" ({verdict.message})" if verdict.message else "")
            for problem, verdict in own
            if not verdict.correct
        ]
    return lines


def gold_response(problem: Problem) -> str | None:
    """A response that gives the gold answer; None where none can be made of it (tests without a program)."""
    answer = problem.answer
    if problem.verifier == "code":
        return None if problem.solution is None else _program(problem.solution)
    if problem.verifier == GYM_VERIFIER:
        return f"\\boxed{{{answer_of(problem)}}}"
    return None if isinstance(answer, Mapping | list) else f"\\boxed{{{answer}}}"


def _program(solution: str) -> str:
    return solution if "```" in solution else f"```python\n{solution}\n```"


def _lengths(what: str, lengths: Sequence[int], unit: str) -> str:
    middle = statistics.median(lengths)
    return f"{what}: {min(lengths):,} to {max(lengths):,} {unit}, median {middle:,.0f}"


def _print(console: Console, text: str) -> None:
    """Text as it is: brackets in problems are no markup of rich."""
    console.print(text, markup=False)
