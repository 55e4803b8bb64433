"""Make the long world's policy from a seed: ``python -m masa.embedded.long.build [--seed 0] [--out DIR]``.

Writes tokenizer files, ``config.json``, ``model.safetensors`` and ``build.json`` (seed, command, versions, hash of the
weights). One thread is used, so that the same versions on the same kind of processor give the same weights bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masa.embedded.long import DATA_DIRECTORY
from masa.embedded.long.corpus import warm_start_examples
from masa.embedded.long.model import fresh_policy
from masa.embedded.long.tokenizer import make_tokenizer
from masa.embedded.warm_start import WarmStart, describe_build, print_loss, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Short chains first, then all lengths alike: the policy learns to find an operation by its label one label at a time.
STAGES = (
    WarmStart(examples=16_000, batch_size=8, shuffled=False),
    WarmStart(examples=36_000, batch_size=8, learning_rate=1e-3),
)


def build(out: Path, seed: int = 0, stages: Sequence[WarmStart] = STAGES) -> dict[str, Any]:
    """Warm-start a policy and save it in ``out``; what ``build.json`` says comes back."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        tokenizer = make_tokenizer()
        policy = fresh_policy(tokenizer, seed)
        losses: list[float] = []
        for number, stage in enumerate(stages):
            examples = warm_start_examples(stage.examples, seed, short_first=number == 0)
            losses += train(policy, tokenizer, examples, stage, seed, report=print_loss)
    finally:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    policy.save_pretrained(out)
    tokenizer.save_pretrained(out)
    seconds = time.perf_counter() - start
    command = "python -m masa.embedded.long.build"
    facts = {
        **describe_build(command, seed, policy, tokenizer, losses, sum(stage.examples for stage in stages), seconds),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "weights_sha256": weights_hash(policy),
    }
    (out / "build.json").write_text(json.dumps(facts, indent=2) + "\n")
    return facts


def weights_hash(policy: PreTrainedModel) -> str:
    """SHA-256 of all parameters, in the order of their names."""
    digest = hashlib.sha256()
    for name, parameter in sorted(policy.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m masa.embedded.long.build", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the corpus, the first weights and the batches")
    parser.add_argument("--out", type=Path, default=DATA_DIRECTORY, help="folder to write; default: the package data")
    options = parser.parse_args(arguments)
    print(json.dumps(build(options.out, options.seed), indent=2))


if __name__ == "__main__":
    main()
