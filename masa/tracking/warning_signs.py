"""Signs in a run's metrics that it cannot learn, or is coming apart: each by name, with the options that help."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from masa.callbacks import Callback
from masa.config.signs import SignName
from masa.run_state import RunState
from masa.tracking import keys
from masa.tracking.metrics import finite_values

Row = Mapping[str, Any]
# A sign is a mean over so many steps: a single step says little.
WINDOW = 5


@dataclass(frozen=True)
class Sign:
    """``holds`` takes the first and the newest `WINDOW` steps; ``advice`` says what it means and what to change."""

    holds: Callable[[Sequence[Row], Sequence[Row]], bool]
    advice: str


def signs_of(steps: Sequence[Row]) -> list[SignName]:
    """The signs that hold at the end of ``steps`` (rows of training steps, oldest first); none before `WINDOW` steps.

    What compares the newest steps with the first ones waits until the two windows do not overlap.
    """
    if len(steps) < WINDOW:
        return []
    first = steps[:WINDOW] if len(steps) >= 2 * WINDOW else []
    return [name for name in get_args(SignName) if SIGNS[name].holds(first, steps[-WINDOW:])]


def sign_history(steps: Sequence[Row]) -> dict[str, dict[str, int]]:
    """For each sign that was ever there: its ``first`` and its ``last`` step."""
    found: dict[str, dict[str, int]] = {}
    for count in range(WINDOW, len(steps) + 1):
        for name in signs_of(steps[:count]):
            step = int(steps[count - 1]["step"])
            found.setdefault(name, {"first": step})["last"] = step
    return found


def describe_sign(name: SignName, step: int) -> str:
    """One line for whoever watches."""
    return f"Warning at step {step}: {name}. {SIGNS[name].advice}"


def _mean(rows: Sequence[Row], key: str) -> float:
    """NaN, with which no comparison holds, where no row has a value."""
    values = finite_values(rows, key)
    return math.fsum(values) / len(values) if values else math.nan


def _groups_flat(_: Sequence[Row], last: Sequence[Row]) -> bool:
    return _mean(last, "rollout/solved_none") + _mean(last, "rollout/solved_all") >= 0.95


def _kl_explosion(_: Sequence[Row], last: Sequence[Row]) -> bool:
    return any(_mean(last, key) > 1.0 for key in ("policy/reference_kl", "policy/approximate_kl"))


SIGNS: dict[SignName, Sign] = {
    "metas_unparsed": Sign(
        lambda _, last: _mean(last, keys.PARSE_RATE) < 0.1,
        "Under 10 % of the meta-predictions can be read, so their rewards say nothing. Look at samples.jsonl; raise "
        "rollout.max_meta_tokens where they are cut off, change prompts.meta and prompts.meta_keys, or teach the "
        "policy their form first: masa cold-start --config FILE --out FOLDER, or cold_start.enabled=true.",
    ),
    "responses_truncated": Sign(
        lambda _, last: _mean(last, "rollout/solution_truncated") >= 0.5,
        "Half of the solutions or more end at the response limit: raise rollout.max_solution_tokens.",
    ),
    "groups_flat": Sign(
        _groups_flat,
        "Nearly all problems are solved by every solution or by none, and such groups teach nothing: choose "
        "other problems.train, raise algorithm.num_solutions, or set algorithm.dynamic_sampling.enabled=true.",
    ),
    "no_gradient": Sign(
        lambda _, last: max(finite_values(last, "policy/gradient_norm"), default=math.nan) == 0.0,
        "The gradient is zero: all rewards within each group are equal. Check the rewards in samples.jsonl and the "
        "verifier (problems.verifier).",
    ),
    "entropy_collapse": Sign(
        lambda first, last: _mean(last, "policy/entropy") < 0.1 * _mean(first, "policy/entropy"),
        "The entropy of the next token is under a tenth of the first: lower optimizer.learning_rate, or raise "
        "algorithm.clip_high or algorithm.entropy_coefficient.",
    ),
    "kl_explosion": Sign(
        _kl_explosion,
        "The policy is over 1 nat a token away from the reference or from the weights that sampled: lower "
        "optimizer.learning_rate or algorithm.updates_per_step.",
    ),
    "length_explosion": Sign(
        lambda first, last: _mean(last, keys.SOLUTION_LENGTH) > 3 * _mean(first, keys.SOLUTION_LENGTH),
        "Solutions are over three times as long as at first: set algorithm.overlong.punish_tokens, or lower "
        "optimizer.learning_rate.",
    ),
    "parse_rate_falling": Sign(
        lambda first, last: _mean(last, keys.PARSE_RATE) < 0.5 * _mean(first, keys.PARSE_RATE),
        "Under half as many meta-predictions can be read as at first: lower optimizer.learning_rate, or raise "
        "rollout.max_meta_tokens where rollout/meta_truncated rises.",
    ),
}


class WarningSigns(Callback):
    """Counts the signs that hold after each step, shows those that are new, and ends the run at those asked for."""

    def __init__(self, stop_when: Sequence[SignName] = ()) -> None:
        self._stop_when = tuple(stop_when)
        self._rows: list[Row] = []
        self._signs: list[SignName] = []

    def on_run_begin(self, run: RunState) -> None:
        """A resumed run goes on from the rows that it has."""
        self._rows = [row for row in run.directory.read_metrics() if row["step"] > 0]
        self._signs = signs_of(self._rows)

    def on_step_end(self, run: RunState) -> None:
        self._rows.append({"step": run.step, **run.metrics})
        before, self._signs = self._signs, signs_of(self._rows)
        run.collected.last("policy/warning_signs", len(self._signs))
        for name in self._signs:
            if name not in before:
                run.message(describe_sign(name, run.step))
        ending = next((name for name in self._signs if name in self._stop_when), None)
        if ending is not None:
            run.stop(f"run.stop_when names {ending}")
