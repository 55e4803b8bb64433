"""Make the embedded policy from a seed: ``python -m masa.embedded.build [--seed 0] [--out DIR]``.

Writes tokenizer files, ``config.json``, ``model.safetensors`` and ``properties.json`` (seed, command, package versions,
measured properties).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masa.embedded import DATA_DIRECTORY
from masa.embedded.corpus import warm_start_examples
from masa.embedded.measure import sample_problems, summarize
from masa.embedded.model import fresh_policy
from masa.embedded.tokenizer import train_tokenizer
from masa.embedded.warm_start import WarmStart, describe_build, print_loss, train
from masa.embedded.world import arithmetic_problems

TOKENIZER_EXAMPLES = 4000


def build(out: Path, seed: int = 0, settings: WarmStart | None = None, measured_problems: int = 256) -> dict[str, Any]:
    """Warm-start a policy and save it in ``out``; its ``properties.json`` comes back as a dictionary.

    ``measured_problems`` held-out problems are sampled for the measured properties.
    """
    from masa.rollout.transformers.engine import TransformersEngine

    settings = settings or WarmStart()
    start = time.perf_counter()
    examples = warm_start_examples(settings.examples, seed)
    tokenizer = train_tokenizer(
        text for example in examples[:TOKENIZER_EXAMPLES] for text in (example.prompt, example.response)
    )
    policy = fresh_policy(tokenizer, seed)
    losses = train(policy, tokenizer, examples, settings, seed, report=print_loss)
    out.mkdir(parents=True, exist_ok=True)
    policy.save_pretrained(out)
    tokenizer.save_pretrained(out)
    warm_start_seconds = time.perf_counter() - start

    engine = TransformersEngine(policy, stop_ids=[tokenizer.eos_token_id])
    measured = sample_problems(arithmetic_problems("test", measured_problems), engine, tokenizer)
    command = "python -m masa.embedded.build"
    properties = {
        **describe_build(command, seed, policy, tokenizer, losses, len(examples), warm_start_seconds),
        "measured": summarize(measured),
    }
    (out / "properties.json").write_text(json.dumps(properties, indent=2) + "\n")
    return properties


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m masa.embedded.build", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the corpus, the first weights and the batches")
    parser.add_argument("--out", type=Path, default=DATA_DIRECTORY, help="folder to write; default: the package data")
    options = parser.parse_args(arguments)
    properties = build(options.out, options.seed)
    print(json.dumps(properties["measured"], indent=2))


if __name__ == "__main__":
    main()
