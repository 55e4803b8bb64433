"""Notion hinting: the notions that most predictions name, as text for the solution prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from masa.config import ConfigError
from masa.config.controls import HintingSection
from masa.controls.own.shaping import OwnHint
from masa.problems import Problem
from masa.rewards.meta_prediction import MetaPrediction
from masa.rewards.notions import NotionForm, NotionMatch, notion_form, notions_in_texts


class NotionHinting:
    """Makes the hint of a problem out of its M predictions.

    Args:
        special: texts of the tokenizer's special tokens; a notion that holds one would break the chat template.
        match: which notions are the same, as in the reward of notions.
        own: says what the hint of a problem is, in place of the agreed notions.

    Raises:
        ConfigError: ``controls.hinting.text`` is no jinja2 text over ``notions``.
    """

    def __init__(
        self,
        section: HintingSection,
        special: Sequence[str] = (),
        match: NotionMatch = "form",
        own: OwnHint | None = None,
    ) -> None:
        self.section = section
        self.own = own
        self._match = match
        self._special = tuple(special)
        environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
        try:
            used = jinja2.meta.find_undeclared_variables(environment.parse(section.text))
            self._text = environment.from_string(section.text)
            self._text.render(notions=["x"])
        except jinja2.TemplateError as error:
            raise ConfigError(f"controls.hinting.text: found {section.text!r}: {error}") from error
        if "notions" not in used:
            raise ConfigError(
                f"controls.hinting.text: found {section.text!r}, allowed: text that holds {{{{ notions }}}}"
            )

    def hint(self, predicted: Sequence[Sequence[str] | None], statement: str) -> str | None:
        """The hint's text, None where no notion is agreed upon."""
        notions = rank_notions(predicted, statement, self.section, self._special, self._match)
        return self._text.render(notions=notions).strip() or None if notions else None

    def hint_of(self, problem: Problem, predictions: Sequence[MetaPrediction]) -> str | None:
        """The hint of a problem; None where there is none. A text that holds a special token's text is no hint."""
        if self.own is None:
            return self.hint([one.notions for one in predictions], problem.statement)
        text = (self.own(problem, predictions) or "").strip()
        return None if not text or any(one in text for one in self._special) else text

    def hinted(self, num_solutions: int) -> int:
        """How many of a problem's solutions are given the hint: the first so many, for their seeds are alike."""
        return round(self.section.share * num_solutions)


def rank_notions(
    predicted: Sequence[Sequence[str] | None],
    statement: str,
    section: HintingSection,
    special: Sequence[str] = (),
    match: NotionMatch = "form",
) -> list[str]:
    """The notions that enough predictions name, most named first, at most ``max_notions``.

    Notions that differ only in case, plural or spacing (``match``) are one; it is written as it most often was. Notions
    of the problem statement are left out, for they say nothing new, and so are those that hold a special token's text.
    """
    votes: Counter[NotionForm] = Counter()
    writings: dict[NotionForm, Counter[str]] = {}
    for notions in predicted:
        forms: dict[NotionForm, str] = {}
        for notion in notions or ():
            if not any(one in notion for one in special):
                forms.setdefault(notion_form(notion, match), notion)
        for form, notion in forms.items():
            if form:
                votes[form] += 1
                writings.setdefault(form, Counter())[notion] += 1
    given = notions_in_texts(votes, [statement], match)[0]
    needed = section.min_agreement * len(predicted)
    # Counter orders equal counts by first appearance.
    agreed = [form for form, count in votes.most_common() if form not in given and count >= needed]
    return [writings[form].most_common(1)[0][0] for form in agreed[: section.max_notions]]
