"""MASATrainer: what a script or a notebook trains, asks and saves a policy with.

    problems -> prompts -> engine -> rollouts -> verifier -> group statistics -> r_meta
                             ^                                    |               |
                             +--- weights <--- policy update <--- advantages of both paths

A step waits for three things in turn: the engine (rollouts), the verifier's workers (correctness), the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from masa.answering import Answering, Asked, IdlePolicy
from masa.callbacks import Callback, checked_callbacks, load_callbacks
from masa.cold_start.run import cold_start_alone
from masa.config import Config, ConfigError, load_config
from masa.export import push_policy, save_policy
from masa.flow.ahead import require_correction
from masa.model.own_model import check_model_object, check_tokenizer_object, own_tokenizer
from masa.policy.objective.algorithm import require_corrected_type, resolve_algorithm
from masa.preflight import Prepared, prepare, problems_of_rows, total_steps
from masa.publishing.publish import card_writer
from masa.rewards.functions import RewardFunction, checked_reward_functions, load_reward_functions, with_names
from masa.rewards.own_parts import Verifier, check_verifier_object
from masa.run import load_run
from masa.run_parts import RunParts
from masa.training_run import TrainingRun

if TYPE_CHECKING:
    import pandas
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from masa.preflight import ProblemRows


class MASATrainer:
    """Trains a policy with MASA, or with plain GRPO where ``algorithm.meta`` is false.

    Args:
        config: a `Config`, or the path of a YAML file.
        model: a causal language model in place of the one that ``model.path`` names. It is trained in place.
        tokenizer: its tokenizer, likewise; without it, the one that lies where ``model`` was loaded from.
        problems: training problems in place of ``problems.train``: a list of `Problem` objects or of mappings, which
            are read like the rows of a file, a pandas DataFrame, or a Dataset, a DatasetDict or (with
            ``problems.limit``) an IterableDataset of `datasets`.
        eval_problems: held-out problems in place of ``problems.eval``, likewise (with ``problems.eval_limit``).
        verifier: judges answers in place of the pool of isolated workers; needs a ``verify(items)`` method.
        reward_functions: of the user's own, added to the correctness of a solution after those that
            ``rewards.functions`` names: functions, or `masa.RewardFunction` objects with name and weight.
        callbacks: objects with methods of `masa.Callback`, called after those that ``run.callbacks`` names.
        console: where progress is shown.

    A context manager: what a run or an answer has opened (engine, verifier's workers) is closed at its end, by `close`,
    or when the program ends.

    Raises:
        ConfigError: a mistake in the configuration.
        ProblemDataError: a mistake in a problem file.
        TypeError: an object that is none of what is asked for.
    """

    def __init__(
        self,
        config: Config | str | Path,
        *,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        problems: ProblemRows | None = None,
        eval_problems: ProblemRows | None = None,
        verifier: Verifier | None = None,
        reward_functions: Sequence[RewardFunction | Callable[..., Any]] = (),
        callbacks: Sequence[Callback] = (),
        console: Console | None = None,
    ) -> None:
        own_rewards = checked_reward_functions(reward_functions)
        own_callbacks = checked_callbacks(callbacks)
        if verifier is not None:
            check_verifier_object(verifier)
        if model is not None:
            check_model_object(model)
        if tokenizer is not None:
            check_tokenizer_object(tokenizer)
        self.config = config if isinstance(config, Config) else load_config(config)
        self.algorithm = resolve_algorithm(self.config.algorithm)
        require_correction(
            self.config.rollout.async_steps,
            self.algorithm.loss.engine_correction is not None,
            partial=self.config.rollout.partial,
        )
        policy_type = self.config.model.dtype if model is None else str(model.dtype).removeprefix("torch.")
        require_corrected_type(self.config.rollout.dtype, policy_type, self.algorithm)
        named_callbacks = load_callbacks(self.config.run.callbacks)
        all_rewards = with_names([*load_reward_functions(self.config.rewards.functions), *own_rewards])
        prepared = prepare(
            self.config,
            tokenizer=tokenizer if tokenizer is not None or model is None else own_tokenizer(model, self.config.model),
            problems=problems,
            eval_problems=eval_problems,
            own_verifier=verifier is not None,
            model_config=None if model is None else model.config,
        )
        self._run: TrainingRun | None = None
        self._idle = IdlePolicy(self.config, prepared, model, verifier)
        self._parts = RunParts(
            config=self.config,
            algorithm=self.algorithm,
            prepared=prepared,
            steps=total_steps(self.config, prepared.train),
            console=console or Console(),
            model=model,
            verifier=verifier,
            reward_functions=all_rewards,
            callbacks=(*named_callbacks, *own_callbacks),
        )

    def __enter__(self) -> MASATrainer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def train(self, *, resume: bool = False) -> dict[str, Any]:
        """Run all steps; returns the summary, which is also ``summary.json``.

        With ``resume`` the run in ``run.dir`` goes on from its newest checkpoint, as if it had never stopped; where
        there is none yet, it begins. A run that `steps` began goes on where it is.

        SIGTERM lets the step end, writes a checkpoint and returns the number of steps done in place of a summary.

        Raises:
            RunExistsError: ``run.dir`` holds a run and ``resume`` is false.
            ConfigError: the run to resume had another configuration, or the model cannot be loaded.
            CheckpointError: a checkpoint cannot be written, or none of those to resume from is whole or holds more
                than the model.
            DivergedError: several updates in a row had no finite gradient.
            VerifierFailedError: the verifier raised on every response of a step or of an evaluation.
            RewardFunctionError: a reward function failed on every response of a step.
        """
        for _ in self.steps(resume=resume):
            continue
        assert self._run is not None
        return self._run.outcome

    def steps(self, n: int | None = None, *, resume: bool = False) -> Iterator[dict[str, float]]:
        """Take the next ``n`` steps (None: all that are left), and yield the metrics of each as it ends.

        The run stays open afterwards, with its model and engine, and the next call goes on with the next step; between
        two calls a checkpoint is written, `predict`, `solve` and `evaluate` ask the policy as it is, and `train` takes
        what is left. After the last step, or `close`, everything is closed. A loop that is left with ``break`` or an
        error of its own leaves the run open, too; an error of the run itself closes it.

        What `train` raises is raised here as well.

        Raises:
            ValueError: ``n`` is below 1.
        """
        if n is not None and n < 1:
            raise ValueError(f"n: found {n}, allowed: at least 1, or None for all steps that are left")
        return self._take(n, resume)

    def cold_start(self, out: str | Path, *, resume: bool = False) -> dict[str, Any]:
        """Do the cold start of ``cold_start`` alone; ``out`` holds the model afterwards, and how it came about.

        Returns its summary; where SIGTERM ended it before that, only what did.

        Raises:
            RunExistsError: ``out`` holds one and ``resume`` is false.
            ConfigError: ``cold_start.enabled`` is false, the one to resume had another configuration, or the model
                cannot be loaded.
            CheckpointError: a checkpoint cannot be written or read.
            DivergedError: several updates in a row had no finite gradient.
            VerifierFailedError: the verifier raised on every response.
        """
        if not self.config.cold_start.enabled:
            raise ConfigError("cold_start.enabled: found False, allowed for a cold start: true")
        self._idle.close()
        return cold_start_alone(self._parts, Path(out), resume=resume)

    def close(self) -> None:
        """Close what is open: a run between two steps, whose checkpoint `train(resume=True)` goes on from, or the
        engine that answers outside of a run. Safe to call twice."""
        self._idle.close()
        if self._run is not None:
            self._run.close()

    @property
    def prepared(self) -> Prepared:
        """What was checked and made before a model is loaded: problems, prompts, tokenizer."""
        return self._parts.prepared

    @property
    def has_begun(self) -> bool:
        """Whether this trainer has begun a run, and so has a run directory."""
        return self._run is not None and self._run.directory is not None

    @property
    def directory(self) -> Path:
        """The run directory of the newest run that this trainer began.

        Raises:
            RuntimeError: it has begun none.
        """
        if self._run is None or self._run.directory is None:
            raise RuntimeError("this trainer has begun no run yet: call train() or steps() first")
        return self._run.directory.path

    @property
    def metrics(self) -> pandas.DataFrame:
        """The metrics of the run so far, one row a step, as `masa.load_run` reads them."""
        return load_run(self.directory).metrics

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's tokenizer."""
        return self.prepared.tokenizer

    @property
    def model(self) -> PreTrainedModel:
        """The policy: in training, as it was trained, or, before the first step, as it will begin (loaded when asked
        for)."""
        return self._idle.model if self._run is None or self._run.model is None else self._run.model

    def evaluate(
        self,
        problems: ProblemRows | None = None,
        *,
        num_samples: int | None = None,
        num_metas: int | None = None,
        temperature: float | None = None,
    ) -> dict[str, float]:
        """Held-out accuracy and meta-awareness of the policy as it is, under the names that metrics.jsonl has.

        Args:
            problems: None: the held-out problems of the configuration.
            num_samples: solutions of each problem; None: that of ``evaluation``.
            num_metas: meta-predictions of each problem; None: that of ``evaluation``.
            temperature: None: that of ``evaluation``; 0: greedy.

        Raises:
            ValueError: there are no problems.
            VerifierFailedError: the verifier raised on every response.
        """
        asked = self.prepared.evaluation if problems is None else problems_of_rows(self.config, problems)
        if not asked:
            raise ValueError("problems: found none; name held-out problems in problems.eval, or give some here")
        given = {"num_samples": num_samples, "num_metas": num_metas, "temperature": temperature}
        changes = {name: value for name, value in given.items() if value is not None}
        return self._answering().evaluate(asked, **changes)

    def predict(
        self, problems: Asked | Sequence[Asked], *, num_metas: int | None = None, temperature: float | None = None
    ) -> pandas.DataFrame:
        """What the policy predicts of problems before solving them: one row a meta-prediction.

        Args:
            problems: one problem or several: texts, `Problem` objects, or mappings like the rows of a problem file.
            num_metas: meta-predictions a problem; None: ``algorithm.num_metas``.
            temperature: None: that of training; 0: greedy.

        Returns:
            the columns ``problem``, ``index``, ``parsed``, ``pass_rate`` (0 to 1), ``length`` (tokens), ``notions``,
            ``response``, ``tokens``, ``finish_reason``.
        """
        if num_metas is None:
            num_metas = self.config.algorithm.num_metas
        return self._answering().predict(problems, num_metas, temperature)

    def solve(
        self, problems: Asked | Sequence[Asked], *, num_solutions: int = 1, temperature: float | None = None
    ) -> pandas.DataFrame:
        """Solutions of problems, given as for `predict`: one row a solution.

        Returns:
            the columns ``problem``, ``index``, ``response``, ``tokens``, ``finish_reason``; for problems with an answer
            also ``correct`` and ``status``, the verifier's verdict.
        """
        return self._answering().solve(problems, num_solutions, temperature)

    def save(self, folder: str | Path) -> Path:
        """Write the policy (adapters merged) and its tokenizer as `transformers` loads them; returns the folder.

        Of several processes the first one writes.

        Raises:
            ValueError: the policy is sharded over processes (ZeRO 3); the run's checkpoints hold it whole.
        """
        return save_policy(Path(folder), self.model, self.tokenizer)

    def push_to_hub(
        self, repo_id: str, *, private: bool = True, token: str | None = None, message: str = "Upload a policy"
    ) -> str:
        """Upload what `save` writes to the Hugging Face hub; returns the address of the commit.

        Once a run has recorded steps, a model card made from it goes along.

        Args:
            repo_id: ``owner/name``, or the name alone; made where there is none.
            private: make a private repository, and refuse one that is public.
            token: None: that of ``huggingface-cli login`` or HF_TOKEN.
            message: of the commit.

        Raises:
            ValueError: the policy is sharded over processes, as for `save`.
            HubPushError: the hub cannot be reached, or refuses.
        """
        return push_policy(
            repo_id,
            self.model,
            self.tokenizer,
            private=private,
            token=token,
            message=message,
            describe=card_writer(self.directory, repo_id) if self.has_begun else None,
        )

    def _open_run(self, resume: bool) -> TrainingRun:
        """The run that is open, or a new start of one."""
        if self._run is None or not self._run.is_open:
            self._idle.close()
            self._run = TrainingRun(self._parts)
            self._run.open(resume=resume)
        return self._run

    def _take(self, n: int | None, resume: bool) -> Iterator[dict[str, float]]:
        run = self._open_run(resume)
        try:
            yield from islice(run.left, n)
        finally:
            run.rest()

    def _answering(self) -> Answering:
        """Whoever answers for the policy as it is: the open run between two steps, or an engine of its own."""
        if self._run is not None and self._run.is_open:
            return self._run.answering()
        trained = None if self._run is None else self._run.model
        return self._idle.answering(trained)
