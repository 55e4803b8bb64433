"""What an update computes that it need not: padding, and groups without an advantage; TRL 1.16 beside masa.

Padding: 32 completions, 31 of 16 tokens and one of 256 (prompts of 8), micro-batches of 4 rows for TRL and of the same
number of tokens as its average for masa; tokens that go through the model, for each token that is real.
Zero advantage: 8 groups of 16 completions of 32 to 128 tokens, none or half of the groups constant; CPU-seconds of
one update (forward and backward; TRL in micro-batches of 16), alternating, medians.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from trl_common import qwen3, trl_inputs, trl_trainer

from masa.config.algorithm import OptimizerSection
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.objective.presets import preset
from masa.policy.update.optimizer import make_optimizer
from masa.policy.update.updater import PolicyUpdater, TrainingRow

VOCABULARY = 4096
Rows = tuple[list[list[int]], list[list[int]], list[float]]


def _rows(lengths: list[int], advantages: list[float], prompt: int) -> Rows:
    numbers = random.Random(0)
    prompts = [[numbers.randrange(VOCABULARY) for _ in range(prompt)] for _ in lengths]
    completions = [[numbers.randrange(VOCABULARY) for _ in range(length)] for length in lengths]
    return prompts, completions, advantages


class Both:
    """The same model twice, in TRL's trainer and in masa's updater, and the tokens that go through each."""

    def __init__(self, trl_batch: int, token_budget: int) -> None:
        shape = {"hidden": 192, "layers": 6, "vocabulary": VOCABULARY}
        self.tokens = {"trl": 0, "masa": 0}
        self._batch = trl_batch
        theirs, ours = qwen3(**shape), qwen3(**shape)
        for which, model in (("trl", theirs), ("masa", ours)):
            model.get_input_embeddings().register_forward_hook(self._counter(which))
        self._trainer = trl_trainer(theirs, beta=0.0, max_completion_length=256, loss_type="dapo", epsilon_high=0.28)
        section = OptimizerSection(micro_batch_tokens=token_budget)
        module = PolicyModule(ours, temperature=1.0)
        optimizer = make_optimizer(module, section)
        self._updater = PolicyUpdater(
            Accelerator(cpu=True), module, optimizer, section, preset("dapo").loss, constant_length=256, total_updates=9
        )

    def update(self, which: str, rows: Rows) -> float:
        """CPU-seconds of one update."""
        started = time.process_time()
        (self._trl if which == "trl" else self._masa)(*rows)
        return time.process_time() - started

    def _trl(self, prompts: list[list[int]], completions: list[list[int]], advantages: list[float]) -> None:
        # TRL pads a whole generation batch at once and cuts it into micro-batches afterwards.
        inputs = trl_inputs(prompts, completions, torch.tensor(advantages))
        for start in range(0, len(prompts), self._batch):
            part = {
                name: value[start : start + self._batch] if value.dim() else value for name, value in inputs.items()
            }
            self._trainer._compute_loss(self._trainer.model, part).backward()
        self._trainer.model.zero_grad()

    def _masa(self, prompts: list[list[int]], completions: list[list[int]], advantages: list[float]) -> None:
        rows = zip(prompts, completions, advantages, strict=True)
        self._updater.update([[TrainingRow(tuple(a), tuple(b), (-1.0,) * len(b), value) for a, b, value in rows]])

    def _counter(self, which: str) -> Any:
        def count(module: Any, arguments: Any, output: torch.Tensor) -> None:
            self.tokens[which] += output.shape[0] * output.shape[1]

        return count


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repeats", type=int, nargs="?", default=3, help="updates of each kind (default: 3)")
    repeats = parser.parse_args(arguments).repeats
    torch.set_num_threads(1)
    lengths = [16] * 31 + [256]
    rows = _rows(lengths, [1.0, -1.0] * 16, prompt=8)
    real = sum(lengths) + 8 * len(lengths)
    both = Both(trl_batch=4, token_budget=264)
    for which in ("trl", "masa"):
        both.update(which, rows)
        print(f"padding: {which:4} computes {both.tokens[which] / real:.2f} times the {real} real tokens")

    numbers = random.Random(1)
    lengths = [numbers.randint(32, 128) for _ in range(128)]
    signs = [1.0 if place % 2 else -1.0 for place in range(128)]
    cases = {"no group": signs, "half the groups": [0.0] * 64 + signs[64:]}
    both = Both(trl_batch=16, token_budget=16 * 150)
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        for case, advantages in cases.items():
            for which in ("trl", "masa"):
                found = both.update(which, _rows(lengths, advantages, prompt=24))
                seconds.setdefault((which, case), []).append(found)
    for which in ("trl", "masa"):
        all_rows, half = (statistics.median(seconds[which, case]) for case in cases)
        print(f"zero advantage: {which:4} {all_rows:.2f} s, with half of the groups constant {half:.2f} s: ", end="")
        print(f"{1 - half / all_rows:.0%} less")
    ratio = statistics.median(seconds["masa", "no group"]) / statistics.median(seconds["trl", "no group"])
    print(f"update alone: masa / TRL {ratio:.2f} in CPU-seconds")


if __name__ == "__main__":
    main()
