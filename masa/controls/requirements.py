"""What controls need of the rest of a configuration, checked before anything is loaded."""

from __future__ import annotations

from masa.config import Config, ConfigError
from masa.config.selection import is_own
from masa.controls.hinting import NotionHinting
from masa.controls.own.loading import tried
from masa.controls.own.selection import own_selector
from masa.controls.own.shaping import own_budget, own_hint
from masa.problems.prompts import PromptTemplates


def check_controls(config: Config, templates: PromptTemplates) -> None:
    """Check the prompt templates against the controls.

    Raises:
        ConfigError: hinting with a hint text that cannot be rendered, or a solution template without a hint.
    """
    if config.controls.hinting.enabled:
        NotionHinting(config.controls.hinting)
        if not templates.uses_hint:
            raise ConfigError(
                f"prompts.solution: found {config.prompts.solution!r}, which has no {{{{ hint }}}}; "
                "controls.hinting needs a solution template that holds it"
            )


def check_own_controls(config: Config) -> None:
    """Make and try the parts of the user's own, which training alone needs: an evaluation of the run does not.

    Raises:
        ConfigError: one that cannot be imported, does not fit the rest of the configuration, or does not work; with
            ``rollout.async_steps`` also one that cannot be copied.
    """
    if is_own(config.controls.selection_method):
        own_selector(config)
    budget, hint = own_budget(config.controls.own), own_hint(config.controls.own)
    if config.rollout.async_steps:
        # What decides about a step that is sampled ahead is a copy of each.
        for name, part in (("budget", budget), ("hint", hint)):
            if part is not None:
                tried(f"controls.own.{name}", part.path, part.at_this_moment)
