"""From a problem to its two prompts: q_sol and q_meta of the paper (docs/problems.md). Templates are data."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from masa.config import ConfigError
from masa.problems.chat import PromptEncodingError
from masa.problems.encoding import Overlong, encode_prompt, encode_prompts, leave_out_overlong
from masa.problems.problem import Problem
from masa.problems.templates import NAMED_TEMPLATES, TemplateKind

__all__ = [
    "DEFAULT_KEYS",
    "Overlong",
    "PromptEncodingError",
    "PromptTemplateError",
    "PromptTemplates",
    "encode_prompt",
    "encode_prompts",
    "leave_out_overlong",
]

DEFAULT_KEYS = {"notions": "notions", "pass_rate": "pass_rate", "solution_length": "solution_length"}

_SHARED_VARIABLES = frozenset({"problem", "source", "verifier", "response_limit", "pass_rate_total", "keys"})
_VARIABLES: Mapping[TemplateKind, frozenset[str]] = {
    "solution": _SHARED_VARIABLES | {"hint"},
    "meta": _SHARED_VARIABLES,
}
_FILE_SUFFIXES = (".txt", ".md", ".j2", ".jinja", ".jinja2")
_TRIAL_PROBLEM = Problem(id="trial", statement="What is 1 + 1?", answer="2", source="trial")


class PromptTemplateError(ConfigError):
    """A template that cannot be found, read, compiled or rendered; the message names it and the line."""


@dataclass(frozen=True)
class _Template:
    kind: TemplateKind
    label: str
    compiled: jinja2.Template
    uses_hint: bool

    def render(self, variables: Mapping[str, Any]) -> str:
        try:
            return self.compiled.render(variables).strip()
        except Exception as error:
            line = _line_in_template(error)
            where = f"{self.label}, line {line}" if line else self.label
            raise PromptTemplateError(f"{where}: cannot be rendered: {error}") from error


class PromptTemplates:
    """The solution template and the meta template, checked when they are made.

    Each template is given as the name of a built-in one (``default``, ``paper``, ``embedded``), as jinja2 text that
    holds ``{{ problem }}``, or as a file (``@file``, or a path). Templates know these variables: ``problem`` (the
    statement), ``source``, ``verifier``, ``response_limit`` (tokens a solution may have), ``pass_rate_total`` and
    ``keys`` (the JSON keys: ``keys.notions``, ``keys.pass_rate``, ``keys.solution_length``); the solution template
    also ``hint``, which is empty where there is none. White space around the rendered text is dropped.

    Raises:
        PromptTemplateError: a name that is not known, a file that cannot be read, a syntax error, a variable that
            templates do not have, or a template without ``problem``.
    """

    def __init__(
        self,
        solution: str = "default",
        meta: str = "default",
        *,
        response_limit: int,
        pass_rate_total: int = 8,
        keys: Mapping[str, str] = DEFAULT_KEYS,
    ) -> None:
        self._variables = {
            "response_limit": response_limit,
            "pass_rate_total": pass_rate_total,
            "keys": {**DEFAULT_KEYS, **keys},
        }
        self._solution = _compile("solution", solution)
        self._meta = _compile("meta", meta)
        for verifier in ("math", "choice", "code", "exact"):
            for hint in (None, "a notion"):
                self._solution.render(self._values(_TRIAL_PROBLEM) | {"verifier": verifier, "hint": hint})
            self._meta.render(self._values(_TRIAL_PROBLEM) | {"verifier": verifier})

    @classmethod
    def from_config(
        cls, *, solution: str, meta: str, keys: Mapping[str, str], pass_rate_total: int, response_limit: int
    ) -> PromptTemplates:
        """The templates that the `prompts` section of a configuration names."""
        return cls(solution, meta, response_limit=response_limit, pass_rate_total=pass_rate_total, keys=keys)

    @property
    def uses_hint(self) -> bool:
        """Whether the solution template has a place for a hint."""
        return self._solution.uses_hint

    def render_solution(self, problem: Problem, hint: str | None = None) -> str:
        """The user message of q_sol, with the hint where one is given.

        Raises:
            PromptTemplateError: a hint for a template that has no place for it.
        """
        if hint and not self.uses_hint:
            raise PromptTemplateError(f"{self._solution.label}: has no {{{{ hint }}}}, so a hint would be lost")
        return self._solution.render(self._values(problem) | {"hint": hint})

    def render_meta(self, problem: Problem) -> str:
        """The user message of q_meta."""
        return self._meta.render(self._values(problem))

    def _values(self, problem: Problem) -> dict[str, Any]:
        return self._variables | {
            "problem": problem.statement,
            "source": problem.source,
            "verifier": problem.verifier,
        }


def _compile(kind: TemplateKind, given: str) -> _Template:
    label, text = _find_text(kind, given)
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    try:
        tree = environment.parse(text)
        compiled = environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise PromptTemplateError(f"{label}, line {error.lineno}: {error.message}") from error
    used = jinja2.meta.find_undeclared_variables(tree)
    _refuse_unknown(used - _VARIABLES[kind], tree, kind, label)
    if "problem" not in used:
        raise PromptTemplateError(f"{label}: does not hold {{{{ problem }}}}, so the policy would not see the problem")
    return _Template(kind, label, compiled, uses_hint="hint" in used)


def _find_text(kind: TemplateKind, given: str) -> tuple[str, str]:
    """What error messages call the template, and its text."""
    named = NAMED_TEMPLATES[kind]
    if given in named:
        return f"{kind} template {given!r}", named[given]
    if "{{" in given or "{%" in given or "\n" in given:
        return f"{kind} template (inline)", given
    if given.startswith("@") or "/" in given or given.endswith(_FILE_SUFFIXES):
        path = Path(given.removeprefix("@")).expanduser()
        label = f"{kind} template {str(path)!r}"
        try:
            return label, path.read_text(encoding="utf-8")
        except OSError as error:
            raise PromptTemplateError(f"{label}: cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise PromptTemplateError(f"{label}: is not UTF-8 text: {error.reason} at byte {error.start}") from error
    near = difflib.get_close_matches(given, named, n=1)
    nearest = f" (nearest: {near[0]!r})" if near else ""
    raise PromptTemplateError(
        f"{kind} template: found {given!r}{nearest}, allowed: one of {', '.join(map(repr, named))}, a file as '@path', "
        "or jinja2 text that holds {{ problem }}"
    )


def _refuse_unknown(unknown: set[str], tree: jinja2.nodes.Template, kind: TemplateKind, label: str) -> None:
    if not unknown:
        return
    uses = [(node.lineno, node.name) for node in tree.find_all(jinja2.nodes.Name) if node.name in unknown]
    line, name = min(uses)
    near = difflib.get_close_matches(name, _VARIABLES[kind], n=1)
    nearest = f" (nearest: {near[0]!r})" if near else ""
    raise PromptTemplateError(
        f"{label}, line {line}: unknown variable {name!r}{nearest}; a {kind} template knows "
        f"{', '.join(sorted(_VARIABLES[kind]))}"
    )


def _line_in_template(error: Exception) -> int | None:
    # jinja2 rewrites tracebacks so that frames of a template carry this file name and the template's own lines.
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
