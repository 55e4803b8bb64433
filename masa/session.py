"""What is alive while a run trains: model, optimiser, engine, verifier, and their state in checkpoints."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from accelerate.utils import gather_object

from masa.checkpointing.session_checkpoints import SessionCheckpoints
from masa.config import Config
from masa.controls.controls import Controls
from masa.distributed.peers import PeerWatch
from masa.distributed.processes import extend_time_limits, make_accelerator
from masa.flow.ahead import RolloutsAhead
from masa.flow.dynamic_sampling import DynamicSampling
from masa.flow.partial import PutAside
from masa.flow.step import StepFlow
from masa.interrupt import StopRequest
from masa.memory import give_back_free_memory
from masa.model.loading import load_policy, prepare_policy
from masa.model.stops import stop_tokens
from masa.policy.batching.shared_prompts import attention_window
from masa.policy.forward.opening import open_policy
from masa.policy.forward.policy_module import packs
from masa.policy.forward.prompt_states import PromptReader
from masa.policy.objective.presets import Algorithm
from masa.policy.update.optimizer import make_optimizer
from masa.policy.update.updater import PolicyUpdater
from masa.preflight import Prepared
from masa.problems import Problem
from masa.problems.mixture import Sampler
from masa.rewards import VerifierPool
from masa.rewards.calling import RewardFunctions
from masa.rewards.functions import RewardFunction
from masa.rewards.grading import GradedGroup, Grader
from masa.rewards.own_parts import Verifier
from masa.rollout.factory import make_engine
from masa.rollout.room import engine_room, positions_of
from masa.rollout.weights.agreement import check_agreement
from masa.start_check import Places, check_layouts, check_start, start_requests
from masa.tokens.exchange import Place
from masa.tracking.cost import model_shape
from masa.tracking.run_directory import RunDirectory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

One = TypeVar("One")


class Session:
    """A context manager that opens everything a step needs and closes it whatever happens."""

    def __init__(
        self,
        config: Config,
        algorithm: Algorithm,
        prepared: Prepared,
        steps: int,
        *,
        model: PreTrainedModel | None = None,
        verifier: Verifier | None = None,
        reward_functions: Sequence[RewardFunction] = (),
    ) -> None:
        self._config = config
        self._algorithm = algorithm
        self._prepared = prepared
        self._steps = steps
        self._given_model = model
        self._given_verifier = verifier
        self._reward_functions = reward_functions
        self._stack = ExitStack()

    def __enter__(self) -> Session:
        with self._stack:
            self._open()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def share(self, items: Sequence[One]) -> list[One]:
        """This process's share of problems, or of anything else."""
        return list(items[self.accelerator.process_index :: self.accelerator.num_processes])

    def gather(self, groups: list[GradedGroup], problems: Sequence[Problem]) -> list[GradedGroup]:
        """The groups of all processes, on each of them, in the order of ``problems``.

        A process has its own groups whole, and those of others without tokens and texts.
        """
        if self.accelerator.num_processes == 1:
            return groups
        process = self.accelerator.process_index
        by_id = {group.problem.id: group for group in gather_object([one.left_at(process) for one in groups])}
        by_id |= {group.problem.id: group for group in groups}
        return [by_id[problem.id] for problem in problems]

    @property
    def place(self) -> Place:
        """Which process this is, for what processes send one another."""
        accelerator = self.accelerator
        return Place(accelerator.process_index, accelerator.num_processes, accelerator.device)

    def gather_objects(self, objects: list[Any]) -> list[Any]:
        """The objects of all processes, on each of them."""
        return objects if self.accelerator.num_processes == 1 else list(gather_object(objects))

    def sample_from(self, sampler: Sampler) -> None:
        """Make ``rollouts``, which holds the batches of steps to come, of problems that ``sampler`` draws."""
        ahead = self._config.rollout.async_steps
        flow = StepFlow(
            sampler, self, self._prepared.builder, self._config, steps_ahead=ahead > 0, put_aside=self.put_aside
        )
        self.rollouts = RolloutsAhead(flow.sample, ahead, self._steps, begin=flow.begin, finish=flow.finish)
        self._stack.callback(self.rollouts.close)

    def synchronise(self, step: int) -> dict[str, float]:
        """Give the engine the weights after ``step``; its metrics since the last time.

        Raises:
            DisagreementError: a check was due (``rollout.check_every``), and the engine samples from something else.
        """
        self.rollouts.wait()
        # Other processes may still be sampling from servers that all of them share.
        self.accelerator.wait_for_everyone()
        metrics = self.engine.statistics()
        if not torch.cuda.is_available():
            give_back_free_memory()
        self.engine.update_weights(self.model, version=step)
        every = self._config.rollout.check_every
        if every and step % every == 0:
            agreement = check_agreement(self.engine, self.model, stop_ids=self.stop_ids)
            metrics |= agreement.metrics()
            agreement.require()
            self.engine.statistics()
        return metrics

    def check_at_start(self) -> list[str]:
        """Compare the places that compute log-probs; what there is to say, in lines.

        Without ``rollout.check_at_start`` only the layouts of micro-batches are compared.

        Raises:
            ConfigError: they disagree, and the run cannot do without.
        """
        text = self.model.config.get_text_config()
        rooms = [positions_of(self.model.config), getattr(self.engine, "max_model_len", None)]
        requests = start_requests(
            self._config,
            self._prepared.builder,
            self._prepared.train,
            room=min((float(one) for one in rooms if one), default=math.inf),
            window=attention_window(text),
        )
        places = Places(
            self.model,
            lambda batch: self.updater.sharded.module(batch, False)[0],
            self.engine,
            self.updater.layouts,
            self.accelerator.is_main_process,
            self.accelerator.mixed_precision,
            lambda number: max(self.gather_objects([number])),
        )
        if self._config.rollout.check_at_start:
            unused = check_start(places, requests, self._config.rollout.temperature)
        else:
            unused = check_layouts(places, requests)
        self.updater.give_up_layouts(unused)
        if unused and self.updater.layouts:
            # What takes the place of packed rows is compared as they were.
            instead = check_layouts(replace(places, layouts=self.updater.layouts), requests)
            self.updater.give_up_layouts(instead)
            unused |= instead
        return [*self.notes, *unused.values()]

    def verifier_counters(self) -> dict[str, float]:
        """What the verifier pools of all processes counted since the last call; nothing for a verifier handed in."""
        if self._pool is None:
            return {}
        counts = Counter[str]()
        for own in self.gather_objects([dict(self._pool.reset_counters())]):
            counts.update(own)
        return {f"verifier_{name}": float(count) for name, count in counts.items()}

    def asked_to_stop(self) -> bool:
        """Whether any process was sent SIGTERM; the same answer on all of them."""
        return any(self.gather_objects([self._stop.requested]))

    def save(
        self,
        directory: RunDirectory,
        step: int,
        sampler: Sampler,
        metrics: Mapping[str, float],
        *,
        wait: bool = True,
    ) -> str | None:
        """Write a checkpoint: model and tokenizer as `transformers` saves them, optimiser, sampler, rollouts ahead.

        With ``checkpoint.contents: model`` only model and tokenizer are written. Without ``wait`` it is written in the
        background, with ``checkpoint.background``; where memory is too short for that, the answer says so.

        Raises:
            CheckpointError: it, or the one before, cannot be written; earlier ones are untouched.
        """
        return self._checkpoints.save(directory, step, sampler, metrics, wait=wait)

    def settle_checkpoint(self, *, wait: bool = False) -> None:
        """Give a checkpoint written in the background its name, if (with ``wait``, once) all processes are done.

        Raises:
            CheckpointError: it cannot be written; earlier ones are untouched.
        """
        self._checkpoints.settle(wait=wait)

    @property
    def is_saving(self) -> bool:
        """Whether a checkpoint is being written in the background; the same on all processes."""
        return self._checkpoints.is_writing

    def restore(self, directory: RunDirectory, sampler: Sampler) -> int | None:
        """Take the newest whole checkpoint's state and return its step; None where there is no checkpoint.

        Raises:
            CheckpointError: there are checkpoints, and all of them are broken, or hold the model alone.
        """
        return self._checkpoints.restore(directory, sampler)

    def _open(self) -> None:
        config = self._config
        if config.run.threads:
            torch.set_num_threads(config.run.threads)
        self.accelerator = make_accelerator(config.run.timeout_minutes)
        self._stack.enter_context(PeerWatch())
        self._stop = self._stack.enter_context(StopRequest())
        verifier, functions = self._open_verifier(), self._open_functions()
        # A verifier handed in may bear no second thread. Batches that are sampled ahead hide their sampling anyway, and
        # what the pool counts in a step would depend on how far ahead it is. Verdicts that decide are needed soon.
        decides = config.algorithm.dynamic_sampling.enabled
        early = self._pool is not None and (decides or not config.rollout.async_steps)
        self.grader = Grader(config, self._prepared.tokenizer, verifier, functions, early=early)

        dynamic = config.algorithm.dynamic_sampling
        self.dynamic_sampling: DynamicSampling | None = None
        if dynamic.enabled:
            self.dynamic_sampling = DynamicSampling(dynamic, config.algorithm.num_problems)

        rollout = config.rollout
        self.put_aside = PutAside(rollout.partial_share, rollout.partial_max_age) if rollout.partial else None

        given = self._given_model
        device = self.accelerator.device
        self.model = load_policy(config.model, device) if given is None else prepare_policy(given, config.model)
        self.model.to(device)
        module, self.notes = open_policy(self.model, config.model, temperature=config.rollout.temperature)
        room = engine_room(config.rollout, self.model.config)
        reader = PromptReader(self.model)
        self.controls = Controls(config, self._prepared.builder, self.grader, room, reader, self.gather_objects)
        self.shape = model_shape(self.model)
        loss = self._algorithm.loss
        reference = copy.deepcopy(module).requires_grad_(False) if loss.needs_reference else None
        self.updater = PolicyUpdater(
            self.accelerator,
            module,
            make_optimizer(module, config.optimizer),
            config.optimizer,
            loss,
            constant_length=config.rollout.max_solution_tokens,
            total_updates=self._steps * config.algorithm.updates_per_step,
            reference=reference,
            packed=packs(config),
            engine_has_all_tokens=config.rollout.draws_from_all_tokens,
        )
        self.stop_ids, lines = stop_tokens(self.model.generation_config, self._prepared.tokenizer, config)
        self.notes += lines
        self.engine = make_engine(
            config.rollout,
            self.model,
            stop_ids=self.stop_ids,
            max_prompt_tokens=config.prompts.max_tokens,
            max_response_tokens=config.longest_response,
            tokenizer=self._prepared.tokenizer,
        )
        self._stack.callback(self.engine.close)
        extend_time_limits(config.run.timeout_minutes)
        self._checkpoints = SessionCheckpoints(self, config, self._prepared)
        self._stack.callback(self._checkpoints.close)

    def _open_verifier(self) -> Verifier:
        """The verifier handed in, or a pool of isolated workers."""
        self._pool: VerifierPool | None = None
        if self._given_verifier is not None:
            return self._given_verifier
        self._pool = VerifierPool.of(self._config.rewards)
        return self._stack.enter_context(self._pool)

    def _open_functions(self) -> RewardFunctions | None:
        """The reward functions, with the objects that are theirs; None where there are none."""
        if not self._reward_functions:
            return None
        builder = self._prepared.builder
        conversational = builder.format.chat and bool(getattr(builder.tokenizer, "chat_template", None))
        functions = RewardFunctions(self._reward_functions, builder.prompt_text, conversational=conversational)
        return self._stack.enter_context(functions)
