"""``--dry-run``: show what a run would do, without loading a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from masa.callbacks import load_callbacks
from masa.config import Config, ConfigError
from masa.controls.requirements import check_own_controls
from masa.flow.ahead import require_correction
from masa.model.loading import TokenizerUnavailableError, load_tokenizer, resolve_model_path
from masa.model.stops import known_stops, stop_tokens
from masa.planning.devices import find_device, find_utilization
from masa.planning.disk import show_disk
from masa.planning.launch import is_first, launch_at_work, planned_launch, sharding_of
from masa.planning.report import read_shape, require_launch, show_needs
from masa.planning.time_report import Run, show_time
from masa.planning.tokens import token_rows
from masa.policy.objective.algorithm import require_corrected_type, resolve_algorithm
from masa.preflight import (
    benchmark_problems_of,
    check_verifiers,
    load_problems_of,
    longest_prompt,
    make_templates,
    plan_step,
    require_enough,
    require_model_fits,
    total_steps,
)
from masa.problems import Problem
from masa.problems.chat import describe_chat
from masa.problems.errors import HubUnavailableError
from masa.problems.prompts import PromptTemplates
from masa.publishing.upload import missing_for_upload
from masa.rewards.functions import load_reward_functions
from masa.rollout.requests import RequestBuilder
from masa.rollout.room import load_model_config
from masa.tracking.run_directory import RunDirectory
from masa.tracking.run_folder import planned_folder
from masa.tracking.trackers.choice import require_trackers

_STAND_IN = Problem(
    id="stand-in",
    statement="How many positive divisors does 360 have?",
    answer="24",
    source="stand-in",
)


_NOT_CHECKED = ": not checked: "


@dataclass(frozen=True)
class _Checked:
    """What was found to be in order: problems to train on and to evaluate with, and what there is to say."""

    templates: PromptTemplates
    train: list[Problem]
    held_out: list[Problem]
    notes: list[str]


def dry_run(
    config: Config,
    console: Console,
    *,
    launch: str | None = None,
    gpu: str | None = None,
    utilization: str | None = None,
) -> None:
    """Validate everything and print two prompts, the plan of a step, and what the run needs.

    ``launch`` are options of `accelerate launch` to plan for in place of the launch at work, ``gpu`` is a GPU that is
    not here, ``utilization`` the shares of a device's speed that are reached. Of several processes only the first
    prints.

    Problems and tokenizers on the hub that cannot be reached from here are no mistake of the configuration: they are
    named, and a stand-in problem shows the prompts.

    Raises:
        ConfigError, ProblemDataError: as a run would.
    """
    if not is_first(os.environ):
        return
    config = config.replace("run.dir", planned_folder(config))
    share = find_utilization(utilization)
    started = launch_at_work(os.environ) if launch is None else planned_launch(launch)
    device = find_device(gpu)
    elsewhere = launch is not None or gpu is not None
    missing = require_launch(config, started, device, elsewhere=elsewhere)
    missing += _missing_trackers(config, elsewhere=elsewhere)
    sharding = sharding_of(started, config)
    checked = _check(config, [f"not installed here: {line}" for line in missing])
    _show_prompts(config, checked, console)
    longest = _longest_prompt(config, [*checked.train, *checked.held_out] or [_STAND_IN], checked.notes)
    steps = total_steps(config, checked.train) if checked.train or config.run.steps else None
    _show_plan(config, checked, longest, steps, console)
    shape = read_shape(config, load_model_config(config.model), checked.notes)
    if shape is not None:
        show_needs(config, shape, started, device, longest, console)
        show_disk(config, shape, sharded=sharding.stage > 0, steps=steps, console=console)
        held_out = len(checked.held_out) if checked.held_out or not config.evaluates else None
        show_time(config, shape, Run(started, sharding, device, longest, steps, held_out, share), console)
    for note in checked.notes:
        console.print(note, highlight=False)
    unread = " What could not be read from here, and was not checked, is named above."
    rest = unread if any(_NOT_CHECKED in note for note in checked.notes) else ""
    console.print(f"The configuration is valid. No model was loaded.{rest}", highlight=False)


def _missing_trackers(config: Config, *, elsewhere: bool) -> list[str]:
    """What is lacking here of the trackers; of a run on another machine that is no mistake.

    Raises:
        ConfigError: the run would be refused here.
    """
    try:
        require_trackers(config)
    except ConfigError as error:
        if not elsewhere:
            raise
        return [str(error)]
    return []


def _check(config: Config, notes: list[str]) -> _Checked:
    """All that a run checks before it loads a model.

    Raises:
        ConfigError, ProblemDataError: as a run would.
    """
    resolve_model_path(config.model)
    load_callbacks(config.run.callbacks)
    load_reward_functions(config.rewards.functions)
    algorithm = resolve_algorithm(config.algorithm)
    require_correction(
        config.rollout.async_steps, algorithm.loss.engine_correction is not None, partial=config.rollout.partial
    )
    require_corrected_type(config.rollout.dtype, config.model.dtype, algorithm)
    templates = make_templates(config)
    check_own_controls(config)
    train = _problems("problems.train", lambda: load_problems_of(config, "train", notes), notes)
    held_out = _problems("evaluation.benchmarks", lambda: benchmark_problems_of(config), notes)
    if config.problems.eval:
        held_out += _problems("problems.eval", lambda: load_problems_of(config, "eval", notes), notes)
    check_verifiers([*train, *held_out])
    if train:
        require_enough(config, train)
    if config.hub.repo and (missing := missing_for_upload()):
        notes.append(f"hub.repo: nothing can be uploaded from here: {missing}")
    directory = RunDirectory(config.run.dir)
    earlier = directory.check(resume=True)
    directory.require_writable()
    if earlier:
        notes.append(f"run.dir: {config.run.dir} holds a run already; start with --resume or choose another")
    return _Checked(templates, train, held_out, notes)


def _show_prompts(config: Config, checked: _Checked, console: Console) -> None:
    problem = (checked.train or [_STAND_IN])[0]
    stand_in = "" if checked.train else ", of a stand-in problem"
    solution = Text(checked.templates.render_solution(problem))
    console.print(Panel(solution, title=f"solution prompt (user message){stand_in}"))
    if config.algorithm.meta:
        meta = Text(checked.templates.render_meta(problem))
        console.print(Panel(meta, title=f"meta prompt (user message){stand_in}"))


def _show_plan(config: Config, checked: _Checked, longest: int, steps: int | None, console: Console) -> None:
    plan = plan_step(config, longest)
    table = Table(title="Plan of a step", show_header=False)
    rows = {
        "policy": config.model.path,
        "algorithm": config.algorithm.name + (" with meta-predictions" if config.algorithm.meta else ""),
        "steps": f"{steps:,}" if steps is not None else _unknown_steps(config),
        "problems": f"{plan.problems:,}",
        "rollouts": f"{plan.solutions:,} solutions, {plan.metas:,} metas",
        "tokens at most": f"{plan.generated_tokens:,} generated, {plan.prompt_tokens:,} of prompts",
        "micro-batches at most": f"{plan.micro_batches:,} of {config.optimizer.micro_batch_tokens:,} tokens",
        **token_rows(config, plan, len(checked.held_out), longest, steps),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def _unknown_steps(config: Config) -> str:
    return f"not known without the problems: {config.run.epochs} epoch{'s' if config.run.epochs > 1 else ''}"


def _problems(key: str, load: Callable[[], list[Problem]], notes: list[str]) -> list[Problem]:
    try:
        return load()
    except HubUnavailableError as error:
        notes.append(f"{key}{_NOT_CHECKED}{error}")
        return []


def _longest_prompt(config: Config, problems: Sequence[Problem], notes: list[str]) -> int:
    """Tokens of the longest prompt among the first of ``problems``, or the limit where there is no tokenizer here.

    Raises:
        ConfigError: the model has no room for the prompts and their responses, or no embeddings for their tokens.
    """
    try:
        tokenizer = load_tokenizer(config.model)
    except TokenizerUnavailableError as error:
        notes.append(f"model.path: prompts are not tokenized, prompts.max_tokens is assumed: {error}")
        return config.prompts.max_tokens
    builder = RequestBuilder(config, make_templates(config), tokenizer)
    notes += describe_chat(tokenizer, builder.format)
    notes += stop_tokens(known_stops(resolve_model_path(config.model)), tokenizer, config)[1]
    require_model_fits(config, builder, problems, load_model_config(config.model))
    return longest_prompt(config, builder, problems)
