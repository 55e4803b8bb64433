"""The model card of a run, from its directory alone: what the policy is, how it came to be, and what it can do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from masa.config import Config, config_from_mapping
from masa.config.load import flatten
from masa.evaluation.measures.metrics import compare_outcomes
from masa.evaluation.measures.outcomes import Outcome
from masa.evaluation.measures.statistics import bootstrap, mean_of
from masa.evaluation.results.markdown import table, with_interval
from masa.problems.presets import PRESETS
from masa.reporting.runs import Run
from masa.tracking.durations import duration
from masa.tracking.environment import commit_name
from masa.tracking.outcome import summarize

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
# Where a run lies and who watches it is nobody's business but the user's.
_PRIVATE = ("run.dir", "hub.", "tracking.", "rollout.servers", "rollout.server_devices", "rollout.transfer_folder")
_MEASURES = {
    "correct solutions": "correctness",
    "r_meta": "r_meta",
    "r_difficulty": "r_difficulty",
    "r_length": "r_length",
    "r_notion": "r_notion",
}


def model_card(run: Run, repo_id: str, step: int, *, figures: Sequence[str] = ()) -> str:
    """The card as Markdown with a YAML head, for the policy after ``step``.

    It names base model, data, recipe, curves, evaluation with intervals, command and versions. ``figures`` are names of
    files in ``figures/`` beside it.

    Raises:
        ConfigError: the run's configuration is none of this version.
    """
    config = config_from_mapping(run.config, str(run.path))
    sections = [
        f"# {repo_id.rpartition('/')[2]}",
        _introduction(config, run, step),
        _use(repo_id),
        "## Training\n\n" + _training(config, run),
        "## Recipe\n\nOptions that differ from the defaults:\n\n```yaml\n" + _recipe(config) + "```",
        "## Curves\n\n" + _curves(run, figures),
        "## Evaluation\n\n" + _evaluation(run),
        "## Command and versions\n\n" + _environment(run.environment),
    ]
    return f"---\n{_head(config)}---\n\n" + "\n\n".join(sections) + "\n"


def _head(config: Config) -> str:
    values: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if base := _base_model(config):
        values["base_model"] = base
    if data := _hub_data(config):
        values["datasets"] = data
    values["tags"] = ["masa", config.algorithm.name, "reinforcement-learning", "reasoning"]
    return yaml.safe_dump(values, sort_keys=False)


def _introduction(config: Config, run: Run, step: int) -> str:
    method = (
        "MASA, which rewards meta-predictions that agree with the policy's own solutions ([arXiv "
        "2510.03259](https://arxiv.org/abs/2510.03259)),"
        if config.algorithm.meta
        else "reinforcement learning from verified answers"
    )
    end = "at the end of the run" if run.summary else f"during the run, whose last recorded step is {run.last_step}"
    loop = f"on a {config.algorithm.name.upper().replace('_', ' ')} loop"
    return f"`{config.model.path}` trained with {method} {loop}. The policy after step {step}, {end}."


def _use(repo_id: str) -> str:
    return (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{repo_id}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{repo_id}")\n```'
    )


def _training(config: Config, run: Run) -> str:
    algorithm, summary = config.algorithm, run.summary or summarize(run.metrics)
    metas = f", {algorithm.num_metas} meta-predictions" if algorithm.meta else ""
    lora = config.model.lora
    count = run.environment.get("training_problems")
    rows = [
        ["base model", f"`{config.model.path}`"],
        ["data", _data(config) + (f", {count:,} problems" if count else "")],
        ["a step", f"{algorithm.num_problems} problems, of each {algorithm.num_solutions} solutions{metas}"],
        ["steps", f"{summary['steps']:,}"],
        ["learning rate", f"{config.optimizer.learning_rate:g}"],
        ["parameters trained", f"LoRA of rank {lora.rank}, merged" if lora.rank else "all"],
        ["response limits", f"{config.rollout.max_solution_tokens:,} tokens a solution"],
        ["tokens generated", f"{summary['tokens_generated']:,}"],
        ["time", duration(summary["wall_seconds"])],
        ["seed", str(config.run.seed)],
    ]
    return _words(["", ""], rows)


def _recipe(config: Config) -> str:
    """The options as YAML, nested as in a file."""
    nested: dict[str, Any] = {}
    changed = {key: value for key, value, _ in config.differences() if not key.startswith(_PRIVATE)}
    plain = flatten(config.model_dump(mode="json"))
    for key in changed:
        *parents, last = key.split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = plain[key] if key in plain else _inside(config.model_dump(mode="json"), key)
    return yaml.safe_dump(nested, sort_keys=False, allow_unicode=True)


def _curves(run: Run, figures: Sequence[str]) -> str:
    summary = run.summary or summarize(run.metrics)
    rows = [
        [label, f"{summary[f'{key}_first']:.3f}", f"{summary[f'{key}_last']:.3f}"]
        for label, key in _MEASURES.items()
        if summary.get(f"{key}_first") is not None and summary.get(f"{key}_last") is not None
    ]
    parts = [f"![{Path(name).stem.replace('_', ' ')}](figures/{name})" for name in figures if name == "overview.png"]
    if rows:
        parts.append(
            "Means over the first and the last tenth of the steps, on training problems:\n\n"
            + table(["measure", "first", "last"], rows)
        )
    return "\n\n".join(parts) or "No step was recorded."


def _evaluation(run: Run) -> str:
    parts = []
    if run.held_out_by_step:
        parts.append(_held_out(run.held_out_by_step))
    for evaluation in run.evaluations:
        parts.append(_benchmarks(evaluation.name, evaluation.results))
    if not parts:
        return "No problem was held out, and no benchmark was evaluated."
    return "\n\n".join([*parts, "In brackets: 95 % bootstrap intervals over problems. One run with one seed."])


def _held_out(by_step: Mapping[int, Sequence[Outcome]]) -> str:
    first, last = min(by_step), max(by_step)
    steps = dict.fromkeys([first, last])
    rows = []
    for step in steps:
        outcomes = by_step[step]
        estimate = bootstrap(mean_of([one.pass_rate for one in outcomes]), len(outcomes)).row()
        state = "before training" if step == 0 else f"step {step}"
        rows.append([state, str(len(outcomes)), with_interval("pass@1", estimate)])
    text = "Held-out problems of the run:\n\n" + table(["policy", "problems", "pass@1, %"], rows)
    found = compare_outcomes(by_step[last], by_step[first]) if last > first else None
    if found is None:
        return text
    difference = with_interval("pass@1", found.difference.row())
    return (
        f"{text}\n\nDifference on the same problems: {difference} points (p = {found.p_value:.3g}, permutation test)."
    )


def _benchmarks(name: str, results: Mapping[str, Any]) -> str:
    settings = results.get("config", {})
    rows = []
    for found in results["benchmarks"].values():
        metrics = found["metrics"]
        best = max((key for key in metrics if key.startswith("pass@")), key=lambda key: int(key.removeprefix("pass@")))
        cells = [f"{key}: {with_interval(key, metrics[key])}" for key in dict.fromkeys(("pass@1", best))]
        rows.append([str(found["title"]), str(found["problems"]), "; ".join(cells)])
    how = (
        f"{settings.get('samples')} samples, temperature {settings.get('temperature')}, "
        f"at most {settings.get('max_tokens')} tokens"
    )
    return f"Benchmarks ({name}; {how}):\n\n" + _words(["benchmark", "problems", "accuracy, %"], rows)


def _environment(environment: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
    facts = [f"Python {environment.get('python', 'unknown')}", packages]
    if commit := commit_name(environment.get("git")):
        facts.append(f"commit {commit}")
    return f"```\n{environment.get('command', 'not recorded')}\n```\n\n" + "; ".join(one for one in facts if one) + "."


def _data(config: Config) -> str:
    return ", ".join(f"`{name}`" for name in _sources(config))


def _sources(config: Config) -> list[str]:
    train = config.problems.train
    names = [train] if isinstance(train, str) else [one.source for one in train]
    # Of a file its name alone: the folder says something of the user's machine.
    return [PRESETS.get(name, name if not Path(name).expanduser().exists() else Path(name).name) for name in names]


def _hub_data(config: Config) -> list[str]:
    names = [name.partition(":")[0] for name in _sources(config)]
    return [name for name in names if _HUB_ID.fullmatch(name)]


def _base_model(config: Config) -> str | None:
    path = config.model.path.partition(":")[0]
    return path if _HUB_ID.fullmatch(path) and not Path(path).exists() else None


def _words(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of texts."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _inside(values: Mapping[str, Any], key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found[part]
    return found
