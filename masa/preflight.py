"""Everything a run needs that can be checked before a model is loaded: tokenizer, templates, problems, step plan."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from masa.cold_start.written_metas import read_form, read_thoughts
from masa.config import Config, ConfigError
from masa.controls.requirements import check_controls, check_own_controls
from masa.model.loading import load_tokenizer, resolve_model_path
from masa.problems import Problem
from masa.problems.chat import describe_chat
from masa.problems.errors import ProblemDataError
from masa.problems.loading import load_problems
from masa.problems.prompts import PromptTemplates, leave_out_overlong
from masa.problems.report import LoadedProblems, LoadReport
from masa.problems.sources import TrainingProblems, load_training_problems, without_held_out
from masa.problems.tables import is_stream
from masa.rewards.sandbox.isolation import SandboxUnavailableError
from masa.rewards.verifiers import check_verifier
from masa.rollout.engine import RolloutPath
from masa.rollout.requests import RequestBuilder
from masa.rollout.room import load_model_config, require_embeddings, require_room
from masa.software import require_software
from masa.tracking.trackers.choice import require_trackers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# A list of problems or of rows, or a table of them; what it is, is found out by `load_problems`.
ProblemRows: TypeAlias = Any

# Prompts of a run are alike in the tokens that templates put around problems.
_SHOWN_PROMPTS = 64


@dataclass(frozen=True)
class Prepared:
    """What preflight made: ready to be given to a trainer."""

    tokenizer: PreTrainedTokenizerBase
    builder: RequestBuilder
    train: list[Problem]
    evaluation: list[Problem]
    notes: list[str]
    weights: tuple[float, ...] = ()
    """Of several sources of training problems."""
    part_of: Mapping[str, int] = field(default_factory=dict)
    """The source of each training problem, by its id, as an index of ``weights``."""


@dataclass(frozen=True)
class StepPlan:
    """Upper bounds of one training step."""

    problems: int
    solutions: int
    metas: int
    prompt_tokens: int
    generated_tokens: int
    micro_batches: int


def prepare(
    config: Config,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    problems: ProblemRows | None = None,
    eval_problems: ProblemRows | None = None,
    own_verifier: bool = False,
    model_config: Any = None,
) -> Prepared:
    """Check and load all but the model; objects handed in take the place of what the configuration names.

    With ``own_verifier`` the verifiers that problems name are not asked for: something else judges the answers.
    ``model_config`` is that of a model handed in; without it, it is read from where the model lies.

    Raises:
        ConfigError: a path, template or number that cannot work, or something that is not installed.
        ProblemDataError: a problem file or row that is no problem.
    """
    require_software(config, model_given=model_config is not None)
    require_trackers(config)
    resolve_model_path(config.model)
    templates = make_templates(config)
    check_own_controls(config)
    if config.cold_start.enabled:
        read_form(config.cold_start.response)
        read_thoughts(config.cold_start.thoughts)
    notes: list[str] = []
    if problems is None:
        loaded = load_training_problems(config.problems)
        for report in loaded.reports:
            notes.extend(_describe("problems.train", report))
    else:
        given = load_rows(config, problems, config.problems.train_split, config.problems.limit)
        notes.extend(_describe("problems", given.report))
        loaded = TrainingProblems(given.problems, [])
    train = loaded.problems
    if eval_problems is not None:
        given = load_rows(config, eval_problems, config.problems.eval_split, config.problems.eval_limit)
        notes.extend(_describe("eval_problems", given.report))
        held_out = given.problems
    else:
        held_out = load_problems_of(config, "eval", notes) if config.problems.eval else []
        held_out += benchmark_problems_of(config)
    train = _without_held_out(train, held_out, notes)
    _require_ids_of_their_own(train, "training problems")
    _require_ids_of_their_own(held_out, "held-out problems")
    if not own_verifier:
        check_verifiers([*train, *held_out])
    tokenizer = tokenizer or load_tokenizer(config.model)
    builder = RequestBuilder(config, templates, tokenizer)
    notes += describe_chat(
        tokenizer, builder.format, of_problems=any(one.system is not None for one in [*train, *held_out])
    )
    train = _within_limit(config, builder, train, "problems.train", notes)
    held_out = _within_limit(config, builder, held_out, "problems.eval", notes)
    require_enough(config, train)
    require_model_fits(config, builder, [*train, *held_out], model_config or load_model_config(config.model))
    return Prepared(tokenizer, builder, train, held_out, notes, loaded.weights, loaded.part_of)


def make_templates(config: Config) -> PromptTemplates:
    """The prompt templates a configuration asks for, checked for what its controls need of them.

    Raises:
        ConfigError: a template that cannot work.
    """
    prompts = config.prompts
    templates = PromptTemplates.from_config(
        solution=prompts.solution,
        meta=prompts.meta,
        keys=prompts.meta_keys.model_dump(),
        pass_rate_total=prompts.pass_rate_total,
        response_limit=config.rollout.max_solution_tokens,
    )
    check_controls(config, templates)
    return templates


def total_steps(config: Config, train: Sequence[Problem]) -> int:
    """``run.steps``, or as many full steps as the epochs hold."""
    if config.run.steps is not None:
        return config.run.steps
    return max(1, config.run.epochs * len(train) // config.algorithm.num_problems)


def plan_step(config: Config, longest_prompt: int) -> StepPlan:
    """Upper bounds of a step whose prompts have at most ``longest_prompt`` tokens."""
    algorithm, rollout = config.algorithm, config.rollout
    solutions = algorithm.num_problems * algorithm.num_solutions
    metas = algorithm.num_problems * algorithm.num_metas if algorithm.meta else 0
    budget = config.optimizer.micro_batch_tokens
    rows = [
        (solutions, longest_prompt + rollout.max_solution_tokens),
        (metas, longest_prompt + rollout.max_meta_tokens),
    ]
    return StepPlan(
        problems=algorithm.num_problems,
        solutions=solutions,
        metas=metas,
        prompt_tokens=(solutions + metas) * longest_prompt,
        generated_tokens=solutions * rollout.max_solution_tokens + metas * rollout.max_meta_tokens,
        micro_batches=sum(math.ceil(count / max(1, budget // length)) for count, length in rows),
    )


def longest_prompt(config: Config, builder: RequestBuilder, problems: Sequence[Problem]) -> int:
    """Tokens of the longest prompt among the first of ``problems``."""
    paths: list[RolloutPath] = ["solution", "meta"] if config.algorithm.meta else ["solution"]
    return max(len(builder.prompt_ids(problem, path)) for problem in problems[:_SHOWN_PROMPTS] for path in paths)


def load_problems_of(config: Config, which: str, notes: list[str]) -> list[Problem]:
    """The problems of ``problems.train`` or ``problems.eval``; what was left out is added to ``notes``.

    Raises:
        ProblemDataError: as `load_problems`.
    """
    section = config.problems
    if which == "train":
        training = load_training_problems(section)
        notes.extend(line for report in training.reports for line in _describe("problems.train", report))
        return training.problems
    assert section.eval is not None
    loaded = load_problems(
        section.eval,
        split=section.eval_split,
        columns=section.columns or None,
        verifier=section.verifier,
        on_bad_row=section.on_bad_row,
        limit=section.eval_limit,
    )
    notes.extend(_describe("problems.eval", loaded.report))
    return loaded.problems


def _without_held_out(train: list[Problem], held_out: list[Problem], notes: list[str]) -> list[Problem]:
    """Generated problems that are held out are no training problems.

    Raises:
        ConfigError: nothing is left.
    """
    kept = without_held_out(train, held_out)
    if len(kept) < len(train):
        notes.append(f"problems.train: {len(train) - len(kept)} generated problems left out, they are held out")
    if train and not kept:
        raise ConfigError(
            "problems.train: every problem is also held out; give the tasks of train and eval options that generate "
            "more problems, or problems.eval a smaller size"
        )
    return kept


def load_rows(config: Config, problems: ProblemRows, split: str, limit: int | None) -> LoadedProblems:
    """Problems as they are; mappings, data frames and data sets are read as rows of a file would be.

    Raises:
        ProblemDataError: as `load_problems`.
    """
    if isinstance(problems, Sequence) and all(isinstance(one, Problem) for one in problems):
        kept = list(problems)[:limit]
        return LoadedProblems(kept, LoadReport("the list of problems", len(kept)))
    section = config.problems
    return load_problems(
        problems,
        split=split,
        columns=section.columns or None,
        verifier=section.verifier,
        on_bad_row=section.on_bad_row,
        limit=limit,
    )


def problems_of_rows(config: Config, problems: ProblemRows) -> list[Problem]:
    """The problems of rows to answer or to evaluate on; ``problems.eval_limit`` bounds a stream."""
    section = config.problems
    return load_rows(config, problems, section.eval_split, section.eval_limit if is_stream(problems) else None).problems


def require_enough(config: Config, train: Sequence[Problem]) -> None:
    """A step, a cold start, and a batch of behaviour cloning must find as many training problems as they take.

    Raises:
        ConfigError: one of them cannot.
    """
    if len(train) < config.algorithm.num_problems:
        raise ConfigError(
            f"algorithm.num_problems: found {config.algorithm.num_problems}, allowed: at most {len(train)}, the number "
            "of training problems that can be used"
        )
    cold = config.cold_start
    if cold.enabled and len(train) < cold.problems:
        raise ConfigError(
            f"cold_start.problems: found {cold.problems}, allowed: at most {len(train)}, the number of training "
            "problems that can be used"
        )
    expert = config.controls.expert
    most = min(len(train), expert.capacity)
    if expert.enabled and expert.batch_size > most:
        raise ConfigError(
            f"controls.expert.batch_size: found {expert.batch_size}, allowed: at most {most}, for there is one expert "
            f"a training problem and a capacity of {expert.capacity}; otherwise nothing would ever be cloned"
        )


def require_model_fits(config: Config, builder: RequestBuilder, problems: Sequence[Problem], model_config: Any) -> None:
    """The model must have positions for the prompts and their responses, and embeddings for the tokens.

    ``model_config`` is None where it cannot be read from here; nothing is checked then.

    Raises:
        ConfigError: it has not.
    """
    if model_config is None:
        return
    paths: list[RolloutPath] = ["solution", "meta"] if config.algorithm.meta else ["solution"]
    # Without a look at the prompts: they are no longer than their limit.
    longest = dict.fromkeys(paths, config.prompts.max_tokens)
    bound = f"prompts.max_tokens {config.prompts.max_tokens}"
    try:
        require_room(config.rollout, model_config, longest, bound)
    except ConfigError:
        # Problems with longer prompts than that are left out.
        lengths = {path: [len(builder.prompt_ids(one, path)) for one in problems] for path in paths}
        most = config.prompts.max_tokens
        longest = {path: max((one for one in lengths[path] if one <= most), default=0) for path in paths}
        require_room(config.rollout, model_config, longest, bound)
    if config.evaluates:
        held_out = config.rollout.model_copy(update={"max_solution_tokens": config.held_out_solution_tokens})
        options: Mapping[RolloutPath, str] = {"solution": "evaluation.max_solution_tokens"}
        require_room(held_out, model_config, {"solution": longest["solution"]}, bound, options=options)
    shown = problems[:_SHOWN_PROMPTS]
    require_embeddings(
        builder.tokenizer, model_config, (builder.prompt_ids(one, path) for one in shown for path in paths)
    )


def _require_ids_of_their_own(problems: Sequence[Problem], what: str) -> None:
    """Rollouts find their problem by its id."""
    counts = Counter(problem.id for problem in problems)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ProblemDataError(f"{what}: {len(twice)} ids occur more than once, such as {twice[0]!r}")


def benchmark_problems_of(config: Config) -> list[Problem]:
    """The problems of ``evaluation.benchmarks``.

    Raises:
        ConfigError: a file of declarations that cannot be read.
        ProblemDataError: an unknown name, or data that cannot be read.
    """
    section = config.evaluation
    if not section.benchmarks:
        if section.declarations:
            raise ConfigError(
                f"evaluation.declarations: found {section.declarations}, which needs evaluation.benchmarks: name there "
                "the declared benchmarks that are to be evaluated"
            )
        return []
    from masa.evaluation.held_out import benchmark_problems

    return benchmark_problems(
        section.benchmarks,
        section.benchmark_data,
        limit=section.benchmark_limit,
        declarations=section.declarations,
    )


def check_verifiers(problems: Sequence[Problem]) -> None:
    """Every verifier that the problems name must exist and be able to run on this machine.

    Raises:
        ConfigError: one that does not, or cannot.
    """
    for name in dict.fromkeys(problem.verifier for problem in problems):
        try:
            check_verifier(name)
        except (ValueError, SandboxUnavailableError) as error:
            raise ConfigError(f"the verifier {name!r} cannot be used: {error}") from error


def _describe(key: str, report: LoadReport) -> list[str]:
    notes = []
    if report.bad_rows:
        first = report.bad_rows[0]
        notes.append(f"{key}: {len(report.bad_rows)} bad rows left out, the first is row {first.index}: {first.reason}")
    if report.duplicates:
        notes.append(f"{key}: {report.duplicates} duplicates left out")
    if report.conflicting_duplicates:
        notes.append(f"{key}: {len(report.conflicting_duplicates)} of the duplicates have {report.conflicts}")
    return notes


def _within_limit(
    config: Config, builder: RequestBuilder, problems: list[Problem], key: str, notes: list[str]
) -> list[Problem]:
    """Leave out problems with a prompt over ``prompts.max_tokens``."""
    limit = config.prompts.max_tokens
    kept, left_out = leave_out_overlong(
        problems,
        builder.templates,
        builder.tokenizer,
        limit,
        format=builder.format,
        meta=config.algorithm.meta,
    )
    if left_out:
        notes.append(f"{key}: {len(left_out)} problems left out, a prompt has over {limit} tokens")
    if problems and not kept:
        shortest = min(max(one.solution_tokens, one.meta_tokens) for one in left_out)
        raise ConfigError(f"prompts.max_tokens: found {limit}, allowed: at least {shortest} for any problem of {key}")
    return kept
