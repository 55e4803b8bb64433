"""Meta-predictions as they are written for a cold start: varied thoughts, then the measured numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from masa.config import ConfigError
from masa.config.prompts import MetaKeysSection
from masa.rewards.meta_prediction import MetaPrediction

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
_OWN_THOUGHTS = Path(__file__).with_name("thoughts.txt")


@dataclass(frozen=True)
class MeasuredFacts:
    """What a meta-prediction is to say: a count of correct solutions out of the total, a length in tokens, notions."""

    pass_rate: int
    length: int
    notions: tuple[str, ...]


class MetaWriter:
    """Writes meta-predictions that read back as what was measured.

    Args:
        form: the template of the whole, of `read_form`.
        thoughts: the templates of the thoughts.
        keys: the JSON keys.
        total: what pass rates are counted out of.
        parse: reads a prediction out of a text, as rewards do.
    """

    def __init__(
        self,
        form: jinja2.Template,
        thoughts: Sequence[jinja2.Template],
        keys: MetaKeysSection,
        total: int,
        parse: Callable[[str], MetaPrediction],
    ) -> None:
        self._form = form
        self._thoughts = thoughts
        self._keys = keys
        self._total = total
        self._parse = parse

    @property
    def variants(self) -> int:
        """How many templates there are."""
        return len(self._thoughts)

    def write(self, facts: MeasuredFacts, variant: int) -> str:
        """The meta-prediction with the thoughts of template ``variant``.

        Raises:
            ConfigError: the text does not read back as ``facts``; the thoughts hold something like a prediction.
        """
        thought = self._thoughts[variant].render(
            notions=list(facts.notions),
            pass_rate=facts.pass_rate,
            pass_rate_total=self._total,
            solution_length=facts.length,
        )
        values = {
            self._keys.notions: list(facts.notions),
            self._keys.pass_rate: facts.pass_rate,
            self._keys.solution_length: facts.length,
        }
        prediction = json.dumps(values, ensure_ascii=False)
        text = self._form.render(thoughts=" ".join(thought.split()), prediction=prediction)
        read = self._parse(text)
        if read != MetaPrediction(facts.notions, facts.pass_rate / self._total, facts.length):
            raise ConfigError(
                f"cold_start.thoughts: with the template in line {variant + 1} a meta-prediction that says {facts} "
                f"reads back as {read}; allowed are thoughts without tags and JSON"
            )
        return text


def read_thoughts(path: str | None) -> list[jinja2.Template]:
    """The templates of a file, one a line; None: those of the package. Lines without text are left out.

    Raises:
        ConfigError: a file that cannot be read or holds no template, or a template that is wrong.
    """
    file = _OWN_THOUGHTS if path is None else Path(path).expanduser()
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cold_start.thoughts: {str(file)!r} cannot be read: {error}") from error
    if not lines:
        raise ConfigError(f"cold_start.thoughts: {str(file)!r} holds no template; one a line is needed")
    templates = []
    for number, line in enumerate(lines, 1):
        try:
            template = _ENVIRONMENT.from_string(line)
            for notions in ([], ["a notion"]):
                template.render(notions=notions, pass_rate=1, pass_rate_total=8, solution_length=100)
        except jinja2.TemplateError as error:
            raise ConfigError(
                f"cold_start.thoughts: line {number} of {str(file)!r}: {error}; templates know notions, pass_rate, "
                "pass_rate_total, solution_length"
            ) from error
        templates.append(template)
    return templates


def read_form(text: str) -> jinja2.Template:
    """The template of a whole meta-prediction.

    Raises:
        ConfigError: it is wrong, or does not hold ``thoughts`` and ``prediction``.
    """
    try:
        template = _ENVIRONMENT.from_string(text)
        shown = template.render(thoughts="[thoughts]", prediction="[prediction]")
    except jinja2.TemplateError as error:
        raise ConfigError(f"cold_start.response: {error}; it knows thoughts and prediction") from error
    for name in ("thoughts", "prediction"):
        if f"[{name}]" not in shown:
            raise ConfigError(f"cold_start.response: found {text!r}, which does not hold {{{{ {name} }}}}")
    return template
