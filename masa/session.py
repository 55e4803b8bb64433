"""What is alive while a run trains: model, optimiser, engine, verifier, and their state in checkpoints."""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list, gather_object

from masa import checkpoint
from masa.config import Config
from masa.controls.controls import Controls
from masa.interrupt import StopRequest
from masa.peers import PeerWatch
from masa.policy.dynamic_sampling import DynamicSampling
from masa.policy.loading import load_policy, prepare_policy
from masa.policy.opening import open_policy
from masa.policy.optimizer import make_optimizer
from masa.policy.policy_module import packs
from masa.policy.presets import Algorithm
from masa.policy.processes import extend_time_limits, make_accelerator
from masa.policy.shared_prompts import attention_window
from masa.policy.stops import stop_tokens
from masa.policy.update import PolicyUpdater
from masa.preflight import Prepared
from masa.problems import Problem
from masa.problems.mixture import Sampler
from masa.rewards import VerifierPool
from masa.rewards.grading import GradedGroup, Grader
from masa.rewards.own_parts import RewardFunction, Verifier
from masa.rewards.shaping import make_shaping
from masa.rollout.agreement import check_agreement
from masa.rollout.ahead import RolloutsAhead, StepBatch
from masa.rollout.factory import make_engine
from masa.rollout.room import engine_room, positions_of
from masa.rollout.waiting import Waiting
from masa.saved_rollouts import (
    CARRIED_OVER,
    read_carried_over,
    read_rollouts_ahead,
    rollouts_ahead,
    write_rollouts,
)
from masa.saving import restore_policy, write_policy
from masa.start_check import Places, check_layouts, check_start, start_requests
from masa.tracking.cost import model_shape
from masa.tracking.run_directory import RunDirectory

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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

    def share(self, problems: Sequence[Problem]) -> list[Problem]:
        """This process's share of ``problems``."""
        return list(problems[self.accelerator.process_index :: self.accelerator.num_processes])

    def gather(self, groups: list[GradedGroup], problems: Sequence[Problem]) -> list[GradedGroup]:
        """The groups of all processes, on each of them, in the order of ``problems``."""
        if self.accelerator.num_processes == 1:
            return groups
        by_id = {group.problem.id: group for group in gather_object(groups)}
        return [by_id[problem.id] for problem in problems]

    def gather_objects(self, objects: list[Any]) -> list[Any]:
        """The objects of all processes, on each of them."""
        return objects if self.accelerator.num_processes == 1 else list(gather_object(objects))

    def sample_with(self, sample: Callable[[int], StepBatch]) -> None:
        """Make ``rollouts``, which holds the batches of steps to come, from the function that samples one."""
        self.rollouts = RolloutsAhead(sample, self._config.rollout.async_steps, self._steps)
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

    def wake_engine(self, step: int) -> None:
        """Make the engine ready to sample more for ``step``, before the policy has learned from it."""
        if self._config.rollout.sleep_level == 2:
            # Asleep like this it has dropped its weights; those of the step before are still the policy's.
            self.engine.update_weights(self.model, version=step - 1)
        else:
            self.engine.wake()

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

    def save(self, directory: RunDirectory, step: int, sampler: Sampler, metrics: Mapping[str, float]) -> None:
        """Write a checkpoint: model and tokenizer as `transformers` saves them, optimiser, sampler, rollouts ahead.

        With ``checkpoint.contents: model`` only model and tokenizer are written.

        Raises:
            CheckpointError: it cannot be written; earlier ones are untouched.
        """
        section = self._config.checkpoint
        state, waiting = self._training_state(sampler) if section.contents == "all" else ({}, {})
        if self.accelerator.is_main_process:
            score = metrics.get(section.best_metric) if section.best_metric else None
            checkpoint.save_checkpoint(
                directory.checkpoints,
                step,
                state,
                lambda folder: self._write(folder, waiting),
                retention=checkpoint.Retention(section.keep, section.best_is),
                score=score if score is not None and math.isfinite(score) else None,
                contents=section.contents,
            )
        else:
            self._write(None, {})
        self.accelerator.wait_for_everyone()

    def _training_state(self, sampler: Sampler) -> tuple[dict[str, Any], dict[str, Waiting]]:
        """What else a run needs to go on: JSON values, and rollouts by file; all processes together."""
        ahead: list[Waiting] = gather_object([self.rollouts.state()])
        carried = self.dynamic_sampling.state() if self.dynamic_sampling else Waiting()
        state = {
            "sampler": sampler.state_dict(),
            "rollouts_ahead": [one.layout for one in ahead],
            "controls": self.controls.state_dict(),
            "policy": self.updater.state_dict(),
            "carried_over": carried.layout,
        }
        return state, {CARRIED_OVER: carried, **{rollouts_ahead(process): one for process, one in enumerate(ahead)}}

    def restore(self, directory: RunDirectory, sampler: Sampler) -> int | None:
        """Take the newest whole checkpoint's state and return its step; None where there is no checkpoint.

        Raises:
            CheckpointError: there are checkpoints, and all of them are broken, or hold the model alone.
        """
        found = self._newest_checkpoint(directory.checkpoints)
        if found is None:
            return None
        step, path = found
        state = checkpoint.read_state(path)
        sampler.load_state_dict(state["sampler"])
        self.controls.load_state_dict(state["controls"])
        if self.dynamic_sampling is not None:
            self.dynamic_sampling.restore(read_carried_over(path, state["carried_over"]), self._prepared.train)
        restore_policy(path, self._config.model, self.updater, state["policy"])
        self.engine.update_weights(self.model, version=step)
        ahead = read_rollouts_ahead(path, state["rollouts_ahead"])
        self.rollouts.restore(ahead, self._prepared.train, self.share)
        return step

    def _newest_checkpoint(self, folder: Path) -> tuple[int, Path] | None:
        """What the first process finds, on every process."""
        found: list[Any] = [None]
        if self.accelerator.is_main_process:
            search = checkpoint.newest_whole_checkpoint(folder)
            found = [search.newest]
            if search.newest is not None:
                checkpoint.put_later_aside(folder, search.newest[0])
                passed = [f"the checkpoint {name} holds the model alone" for name in search.models]
                for warning in (*search.warnings, *passed):
                    warnings.warn(f"{warning}; going on from step {search.newest[0]}", stacklevel=2)
        newest: tuple[int, Path] | None = broadcast_object_list(found)[0]
        return newest

    def _open(self) -> None:
        config = self._config
        if config.run.threads:
            torch.set_num_threads(config.run.threads)
        self.accelerator = make_accelerator(config.run.timeout_minutes)
        self._stack.enter_context(PeerWatch())
        self._stop = self._stack.enter_context(StopRequest())
        shaping = make_shaping(config, self._reward_functions)
        self.grader = Grader(config, self._prepared.tokenizer, self._open_verifier(), shaping)

        dynamic = config.algorithm.dynamic_sampling
        self.dynamic_sampling: DynamicSampling | None = None
        if dynamic.enabled:
            self.dynamic_sampling = DynamicSampling(dynamic, config.algorithm.num_problems, len(self._prepared.train))

        given = self._given_model
        device = self.accelerator.device
        self.model = load_policy(config.model, device) if given is None else prepare_policy(given, config.model)
        self.model.to(device)
        module, self.notes = open_policy(self.model, config.model, temperature=config.rollout.temperature)
        room = engine_room(config.rollout, self.model.config)
        self.controls = Controls(config, self._prepared.builder, self.grader, room)
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

    def _open_verifier(self) -> Verifier:
        """The verifier handed in, or a pool of isolated workers."""
        self._pool: VerifierPool | None = None
        if self._given_verifier is not None:
            return self._given_verifier
        section = self._config.rewards
        self._pool = VerifierPool(
            workers=section.verifier_workers,
            time_limit=section.verifier_seconds,
            memory_limit_mb=section.verifier_memory_mb,
        )
        return self._stack.enter_context(self._pool)

    def _write(self, folder: Path | None, waiting: Mapping[str, Waiting]) -> None:
        updater = self.updater if self._config.checkpoint.contents == "all" else None
        write_policy(folder, self.model, self._prepared.tokenizer, updater)
        for name, rollouts in waiting.items():
            if folder is not None:
                write_rollouts(folder, name, rollouts)
