"""What an evaluation is asked to do, and the configuration each benchmark is prompted with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from masa.config import Config, ConfigError, config_from_mapping
from masa.evaluation.benchmarks.benchmark import Benchmark
from masa.evaluation.benchmarks.loading import DataChoice
from masa.evaluation.measures.meta_awareness import ControlThresholds
from masa.evaluation.measures.statistics import RESAMPLES
from masa.rollout.engine import Sampling


@dataclass(frozen=True)
class Budget:
    """How much is sampled and how. The defaults are those of the paper's evaluation; limits are in tokens.

    Raises:
        ConfigError: a number out of its range.
    """

    samples: int = 32
    metas: int = 8
    temperature: float = 0.6
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 16384
    max_meta_tokens: int = 2048
    batch_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        smallest = {"samples": 1, "metas": 0, "top_k": 0, "max_tokens": 1, "max_meta_tokens": 1, "batch_size": 1}
        for name, bound in {**smallest, "seed": 0, "temperature": 0}.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"--{name.replace('_', '-')}: found {getattr(self, name)}, at least {bound} needed")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"--top-p: found {self.top_p}, more than 0 and at most 1 needed")

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.top_k)


@dataclass(frozen=True)
class EvaluationSettings:
    """All of an evaluation but its directory: the model and its prompts (in ``config``), benchmarks, budget, data."""

    config: Config
    benchmarks: tuple[Benchmark, ...]
    budget: Budget = field(default_factory=Budget)
    data: DataChoice = field(default_factory=DataChoice)
    thresholds: ControlThresholds = field(default_factory=ControlThresholds)
    ks: tuple[int, ...] | None = None
    resamples: int = RESAMPLES
    suites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Suites of the user's own, by name."""

    def __post_init__(self) -> None:
        too_large = [k for k in self.ks or () if k > self.budget.samples]
        if too_large:
            raise ConfigError(f"--pass-at: found {too_large[0]}, allowed: at most --samples, {self.budget.samples}")

    def row(self) -> dict[str, Any]:
        """The settings as JSON values, one flat key each for what has to stay the same when an evaluation goes on."""
        rewards = self.config.rewards
        return {
            "model": self.config.model.model_dump(mode="json"),
            "prompts": self.config.prompts.model_dump(mode="json"),
            "engine": self.config.rollout.engine,
            "stop_token_ids": list(self.config.rollout.stop_token_ids),
            # Evaluations from before there was this option have no such key.
            **({"stop": list(self.config.rollout.stop)} if self.config.rollout.stop else {}),
            **asdict(self.budget),
            "options": self.data.options,
            "options_seed": self.data.options_seed,
            "limit": self.data.limit,
            "benchmarks": [benchmark.name for benchmark in self.benchmarks],
            "files": {name: str(path) for name, path in (self.data.files or {}).items()},
            "folder": None if self.data.folder is None else str(self.data.folder),
            "thresholds": asdict(self.thresholds),
            "verifier": rewards.model_dump(mode="json"),
            "ks": None if self.ks is None else list(self.ks),
            "resamples": self.resamples,
            "own": {
                "benchmarks": {one.name: dict(one.declared) for one in self.benchmarks if one.declared is not None},
                "suites": {name: list(members) for name, members in self.suites.items()},
            },
        }


def settings_from_row(row: Mapping[str, Any]) -> EvaluationSettings:
    """The settings that ``EvaluationSettings.row`` wrote.

    Raises:
        ConfigError, ProblemDataError: they say something that this version does not know.
    """
    from pathlib import Path

    from masa.evaluation.benchmarks import resolve_benchmarks
    from masa.evaluation.benchmarks.own import Declaration, own_benchmark

    declared = row.get("own", {"benchmarks": {}, "suites": {}})
    own = {name: own_benchmark(name, Declaration(**one)) for name, one in declared["benchmarks"].items()}
    config = config_from_mapping(
        {
            "model": row["model"],
            "prompts": row["prompts"],
            "rollout": {
                "engine": row["engine"],
                "stop_token_ids": row.get("stop_token_ids", []),
                "stop": row.get("stop", []),
            },
            "rewards": row["verifier"],
        },
        "settings.json",
    )
    return EvaluationSettings(
        config=config,
        benchmarks=tuple(resolve_benchmarks(row["benchmarks"], own)),
        budget=Budget(**{one.name: row[one.name] for one in fields(Budget)}),
        data=DataChoice(
            files={name: Path(path) for name, path in row["files"].items()},
            folder=None if row["folder"] is None else Path(row["folder"]),
            options=row["options"],
            options_seed=row["options_seed"],
            limit=row["limit"],
        ),
        thresholds=ControlThresholds(**row["thresholds"]),
        ks=None if row["ks"] is None else tuple(row["ks"]),
        resamples=row["resamples"],
        suites={name: tuple(members) for name, members in declared["suites"].items()},
    )


def benchmark_config(settings: EvaluationSettings, benchmark: Benchmark) -> Config:
    """The configuration that a benchmark is prompted and sampled with.

    A template that the run's own configuration names is what the policy was trained on, and goes before the
    benchmark's. The response limit is the smaller one of budget and benchmark; the meta prompt speaks of it.
    """
    config, budget = settings.config, settings.budget
    prompts = config.prompts
    templates = {
        "solution": benchmark.template if prompts.solution == "default" else prompts.solution,
        "meta": benchmark.meta_template if prompts.meta == "default" else prompts.meta,
    }
    limits = {
        "max_solution_tokens": min(budget.max_tokens, benchmark.max_tokens or budget.max_tokens),
        "max_meta_tokens": min(budget.max_meta_tokens, benchmark.max_meta_tokens or budget.max_meta_tokens),
        "max_batch_size": budget.batch_size,
    }
    return config.model_copy(
        update={
            "prompts": prompts.model_copy(update=templates),
            "rollout": config.rollout.model_copy(update=limits),
            "run": config.run.model_copy(update={"seed": budget.seed}),
        }
    )
