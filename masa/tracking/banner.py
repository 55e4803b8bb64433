"""The first lines that a run shows: what is trained, on what, with what, and where it is written."""

from __future__ import annotations

from masa.config import Config
from masa.rollout.factory import choose_engine
from masa.run_state import RunState


def banner(run: RunState, training: int, held_out: int, time: str | None = None) -> list[str]:
    """The lines, for a run whose model is loaded.

    Args:
        run: at its beginning.
        training: problems to train on.
        held_out: problems to evaluate with.
        time: what is estimated of it; None where nothing is known.
    """
    config = run.config
    problems = f"{training:,} to train on, {held_out:,} held out"
    lines = [
        f"Run: {run.directory.path}",
        f"Policy: {_policy(run)}",
        f"Rollouts: engine {choose_engine(config.rollout)}; {_step(config)}",
        f"Problems: {problems}; {run.total_steps - run.step:,} of {run.total_steps:,} steps to take",
    ]
    return lines if time is None else [*lines, time]


def _policy(run: RunState) -> str:
    model = run.model
    if model is None:
        return run.config.model.path
    # ZeRO 3 leaves empty tensors behind on a process, which know how large the whole is.
    sizes = [(getattr(one, "ds_numel", one.numel()), one.requires_grad) for one in model.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)
    named = f"{run.config.model.path}, {total:,} parameters"
    share = "" if trained == total else f", {trained:,} of them trained"
    return f"{named}{share}, {str(model.dtype).removeprefix('torch.')} on {model.device}"


def _step(config: Config) -> str:
    algorithm = config.algorithm
    metas = f" and {algorithm.num_metas} meta-predictions" if algorithm.meta else ""
    return f"a step has {algorithm.num_problems} problems with {algorithm.num_solutions} solutions{metas} each"
