"""The policy whose GRPO steps are measured: Qwen3-shaped, 3M parameters, trained on the embedded world's texts.

What a step costs follows the lengths of its responses, and these should be nobody's choice. So the policy is made as
the shipped one is made, from the same corpus (`masa.embedded.corpus`: worked solutions and meta-predictions), only
wider and for fewer examples, and it answers held-out problems with lengths that it learned from the text.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

Path_ = Literal["solution", "meta"]
EXAMPLES, SEED = 8000, 0


def policy_folder() -> Path:
    """The trained policy and its tokenizer, made at the first call (some minutes) and kept in the temporary folder."""
    from transformers import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = Path(tempfile.gettempdir()) / f"masa_bench_policy_{EXAMPLES}_{SEED}"
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        _train(unfinished)
        unfinished.rename(folder)
    return folder


def load_policy() -> Any:
    """The trained policy, float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(policy_folder(), local_files_only=True)


def prompts(count: int, path: Path_) -> list[str]:
    """Held-out problems of the embedded world in its template and chat template, as a run renders them."""
    from masa.embedded import META_TEMPLATE, SOLUTION_TEMPLATE, arithmetic_problems, load_embedded_tokenizer

    tokenizer = load_embedded_tokenizer()
    template = SOLUTION_TEMPLATE if path == "solution" else META_TEMPLATE
    rendered = []
    for problem in arithmetic_problems("test", count):
        message = {"role": "user", "content": template.replace("{{ problem }}", problem.statement)}
        rendered.append(tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False))
    return rendered


def _train(folder: Path) -> None:
    from trl_common import qwen3

    from masa.embedded import load_embedded_tokenizer
    from masa.embedded.corpus import warm_start_examples
    from masa.embedded.warm_start import WarmStart, train

    tokenizer = load_embedded_tokenizer()
    model = qwen3(
        hidden=192,
        layers=7,
        vocabulary=len(tokenizer),
        num_attention_heads=6,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    settings = WarmStart(examples=EXAMPLES)
    train(model, tokenizer, warm_start_examples(EXAMPLES, SEED), settings, SEED)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nMakes the policy where it is not there yet, and prints its folder.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    print(policy_folder())


if __name__ == "__main__":
    main()
