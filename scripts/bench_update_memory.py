"""Peak memory and time of one forward and backward of the loss, TRL 1.16 beside masa, in processes of their own.

A Qwen3-shaped model (hidden size 256, 2 layers, vocabulary 151,936, float32), 4 rows of 64 prompt and 960 completion
tokens, of which all or a quarter count. Memory is the peak resident set above what the model and its gradients take.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

ROWS, PROMPT, COMPLETION, VOCABULARY = 4, 64, 960, 151_936


def _rows(share: float) -> tuple[list[list[int]], list[list[int]]]:
    import random

    numbers = random.Random(0)
    prompts = [[numbers.randrange(VOCABULARY) for _ in range(PROMPT)] for _ in range(ROWS)]
    completions = [[numbers.randrange(VOCABULARY) for _ in range(COMPLETION)] for _ in range(ROWS)]
    return prompts, completions


def _measure(which: str, share: float) -> dict[str, float]:
    import torch
    from trl_common import qwen3, trl_inputs, trl_trainer

    torch.set_num_threads(1)
    model = qwen3(hidden=256, layers=2, vocabulary=VOCABULARY)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    prompts, completions = _rows(share)
    counted = int(COMPLETION * share)
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.5])
    run: Any
    if which == "trl":
        trainer = trl_trainer(model, beta=0.0, max_completion_length=COMPLETION, loss_type="dapo", epsilon_high=0.28)
        inputs = trl_inputs(prompts, completions, advantages)
        inputs["completion_mask"][:, counted:] = 0
        inputs["num_items_in_batch"] = inputs["completion_mask"].sum()

        def run() -> Any:
            return trainer._compute_loss(trainer.model, inputs)
    else:
        from masa.policy.batching.collate import TokenRow, collate
        from masa.policy.forward.policy_module import PolicyModule
        from masa.policy.objective.losses import policy_loss
        from masa.policy.objective.presets import preset

        module = PolicyModule(model, temperature=1.0)
        # The model reads as many tokens as TRL's does; only fewer of them count.
        mask = [place < counted for place in range(COMPLETION)]
        batch = collate([TokenRow(a, b, mask) for a, b in zip(prompts, completions, strict=True)])

        def run() -> Any:
            logprobs, entropy = module(batch, True)
            params = preset("dapo").loss
            return policy_loss(
                logprobs,
                None,
                advantages,
                batch.response_mask,
                params=params,
                normalizer=float(ROWS * counted),
                entropy=entropy,
            ).loss

    before = _resident()
    _reset_peak()
    started, cpu = time.perf_counter(), time.process_time()
    run().backward()
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gb": (_peak() - before) / 1e9,
    }


def _status(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _resident() -> int:
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repeats", type=int, nargs="?", default=3, help="runs of each (default: 3)")
    parser.add_argument("--child", choices=["trl", "masa"], help=argparse.SUPPRESS)
    parser.add_argument("--share", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(_measure(options.child, options.share)))
        return
    for share in (1.0, 0.25):
        found: dict[str, list[dict[str, float]]] = {"trl": [], "masa": []}
        for _ in range(options.repeats):
            for which, runs in found.items():
                command = [sys.executable, __file__, "--child", which, "--share", str(share)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                runs.append(json.loads(output.strip().splitlines()[-1]))
        medians = {
            which: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            for which, runs in found.items()
        }
        print(f"{share:.0%} of the completion tokens count")
        for key in ("peak_gb", "cpu_seconds", "seconds"):
            theirs, ours = medians["trl"][key], medians["masa"][key]
            print(f"  {key:12} TRL {theirs:7.3f}   masa {ours:7.3f}   masa / TRL {ours / theirs:.3f}")


if __name__ == "__main__":
    main()
