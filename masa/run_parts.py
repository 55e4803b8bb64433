"""What a run is made of, and the session and the sampler that it opens with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accelerate import PartialState
from rich.console import Console

from masa.callbacks import Callback
from masa.config import Config
from masa.distributed.processes import join_processes, require_precise_updates
from masa.policy.objective.presets import Algorithm
from masa.preflight import Prepared
from masa.problems.mixture import Sampler
from masa.problems.sources import make_sampler
from masa.rewards.functions import RewardFunction
from masa.rewards.own_parts import Verifier
from masa.rollout.factory import choose_engine, require_divided_processes
from masa.session import Session
from masa.tracking.working import working

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What a run does between loading and its first step, in words.
CHECKING = "Comparing the log-probs of model, update and engine"


@dataclass(frozen=True)
class RunParts:
    """All of it checked; objects handed in take the place of what the configuration names."""

    config: Config
    algorithm: Algorithm
    prepared: Prepared
    steps: int
    console: Console
    model: PreTrainedModel | None = None
    verifier: Verifier | None = None
    reward_functions: Sequence[RewardFunction] = ()
    callbacks: Sequence[Callback] = ()

    def join(self) -> PartialState:
        """Bring the processes of the run together, before anything is loaded.

        Raises:
            ConfigError: this model, or this engine, cannot be had with so many processes.
        """
        state = join_processes(self.config.run.timeout_minutes)
        require_precise_updates(self.config.model, self.model)
        require_divided_processes(self.config.rollout, state.num_processes)
        return state

    def session(self) -> Session:
        """What is alive while the run is at work; to be entered."""
        return Session(
            self.config,
            self.algorithm,
            self.prepared,
            self.steps,
            model=self.model,
            verifier=self.verifier,
            reward_functions=self.reward_functions,
        )

    @contextmanager
    def opened_session(self, *, first: bool) -> Iterator[Session]:
        """`session`, entered; the first process shows that a model is loaded and an engine started."""
        engine = choose_engine(self.config.rollout)
        named = f"Loading the model {self.config.model.path}, starting the engine {engine}"
        with ExitStack() as stack:
            with working(self.console if first else None, named):
                session = stack.enter_context(self.session())
            yield session

    def sampler(self) -> Sampler:
        """The order of the training problems, from its beginning."""
        return make_sampler(
            self.prepared.train,
            self.prepared.weights,
            self.prepared.part_of,
            self.config.algorithm.num_problems,
            self.config.run.seed,
        )
