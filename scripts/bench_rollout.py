"""Seconds of the vLLM engine against a bare vLLM loop over the same requests, in one process, runs alternating.

    python scripts/bench_rollout.py [--prompts 32] [--samples 8] [--tokens 128] [--rounds 5] [--dtype float32]
    python scripts/bench_rollout.py --trainer [--steps 10]
    python scripts/bench_rollout.py --refilling [--batch 64] [--waves 8] [--rounds 5]
    python scripts/bench_rollout.py --model FOLDER [--batches 32 64] [--tokens 64] [--rounds 3]

The bare loop is ``LLM.generate``'s own: requests added, the engine stepped until none is left, outputs kept. Both run
on the very same vLLM engine, so that nothing but the code around it differs. On a machine with a GPU the policy is as
large as Qwen3-0.6B, with random weights, and one update with sleep and wake is measured as well.

With ``--trainer`` it is the trainer of ``configs/quickstart_vllm.yaml`` that samples, and its ``time/rollout`` that is
compared: the bare loop makes the rollouts of each step again, between rollouts and update.

With ``--model`` it is both engines with a real model on a CPU, by what each part of them gains
(`bench_model_rollouts.py`).

With ``--refilling`` it is the transformers engine, with and without refilling of rows (`bench_refilling.py`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import bench_model_rollouts
import bench_refilling
import torch

from masa.config import load_config
from masa.rollout import RolloutRequest
from masa.rollout.factory import make_engine

SMALL = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "vocab_size": 2048}
QWEN3_06B = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "vocab_size": 151936}
STOP = 1
QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart_vllm.yaml"


def main() -> None:
    options = _options()
    if options.model:
        bench_model_rollouts.measure(options.model, options.batches, options.tokens, options.rounds)
    elif options.refilling:
        bench_refilling.measure(options.batch, options.waves, options.samples, options.rounds)
    elif options.trainer:
        _measure_trainer(options.steps)
    else:
        _measure_engine(options)


def _measure_trainer(steps: int) -> None:
    from masa.trainer import MASATrainer

    bare: list[float] = []

    def make_measured(*arguments: Any, **options: Any) -> Any:
        return _measured(make_engine(*arguments, **options), bare)

    with tempfile.TemporaryDirectory() as folder:
        settings = [f"run.dir={folder}/run", f"run.steps={steps + 1}", "run.threads=1", "rollout.check_every=0"]
        settings += ["problems.eval=null", "checkpoint.every=0", "tracking.figures=false"]
        with mock.patch("masa.session.make_engine", make_measured):
            MASATrainer(load_config(QUICKSTART, settings)).train()
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    # The first step warms up what the bare loop then finds warm.
    ours, bare = [row["time/rollout"] for row in rows if "time/rollout" in row][1:], bare[1:]
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    print(f"{len(ours)} steps of {QUICKSTART.name}, {torch.get_num_threads()} thread")
    print(f"time/rollout  {sum(ours):8.3f} s")
    print(f"bare loop     {sum(bare):8.3f} s")
    print(f"ratio         {sum(ours) / sum(bare):8.3f}, median of steps {statistics.median(ratios):.3f}")


def _measured(engine: Any, seconds: list[float]) -> Any:
    """``engine``, whose every batch of a step the bare loop makes again before the engine goes to sleep."""
    stream, sleep = engine.stream, engine.sleep
    batch: list[RolloutRequest] = []

    def noting_stream() -> Any:
        opened = stream()
        submit = opened.submit

        def note_and_submit(requests: Sequence[RolloutRequest]) -> range:
            batch.extend(requests)
            return submit(requests)

        opened.submit = note_and_submit
        return opened

    def measure_and_sleep() -> None:
        seconds.append(_seconds(lambda: _bare_loop(engine, batch)))
        batch.clear()
        sleep()

    engine.stream, engine.sleep = noting_stream, measure_and_sleep
    return engine


def _measure_engine(options: argparse.Namespace) -> None:
    on_gpu = torch.cuda.is_available()
    policy = _policy(QWEN3_06B if on_gpu else SMALL, getattr(torch, options.dtype)).to("cuda" if on_gpu else "cpu")
    settings = ["rollout.engine=vllm", "rollout.max_batch_size=256", f"rollout.max_model_len={64 + options.tokens}"]
    settings += ["rollout.sleep_level=1"] if on_gpu else ["rollout.kv_cache_gb=0.5"]
    engine: Any = make_engine(load_config(None, settings).rollout, policy, stop_ids=[STOP])
    try:
        requests = _requests(options)
        engine.generate(requests)
        ours, bare = [], []
        for _ in range(options.rounds):
            ours.append(_seconds(lambda: engine.generate(requests)))
            bare.append(_seconds(lambda: _bare_loop(engine, requests)))
        tokens = sum(len(rollout.token_ids) for group in engine.generate(requests) for rollout in group)
        print(f"{len(requests)} prompts x {options.samples} samples, {tokens} tokens, median of {options.rounds}")
        print(f"engine     {statistics.median(ours):8.3f} s  {tokens / statistics.median(ours):10.0f} tokens/s")
        print(f"bare loop  {statistics.median(bare):8.3f} s  {tokens / statistics.median(bare):10.0f} tokens/s")
        print(f"ratio      {statistics.median(ours) / statistics.median(bare):8.3f}")
        print(f"update     {_seconds(lambda: engine.update_weights(policy, 1)):8.3f} s")
        if on_gpu:
            print(f"sleep      {_seconds(engine.sleep):8.3f} s")
            print(f"wake       {_seconds(engine.wake):8.3f} s")
            print(engine.statistics())
    finally:
        engine.close()


def _bare_loop(engine: Any, requests: list[RolloutRequest]) -> None:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    core = engine._engine
    core.reset_prefix_cache()
    outputs = []
    # The compiler is kept out of the way on a CPU for the engine, so for this loop as well.
    with engine._eager():
        number = 0
        for request in requests:
            for seed in request.seeds:
                parameters = SamplingParams(
                    temperature=request.sampling.temperature,
                    seed=seed,
                    max_tokens=request.max_new_tokens,
                    stop_token_ids=engine._stop_ids,
                    ignore_eos=True,
                    logprobs=0,
                    detokenize=False,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                )
                core.add_request(str(number), {"prompt_token_ids": list(request.prompt_ids)}, parameters)
                number += 1
        while core.has_unfinished_requests():
            outputs += [output for output in core.step() if output.finished]
    assert len(outputs) == number


def _requests(options: argparse.Namespace) -> list[RolloutRequest]:
    return [
        RolloutRequest(
            f"p{number}",
            "solution",
            tuple(2 + (13 * place + 7 * number) % 2000 for place in range(24 + number % 40)),
            tuple(range(number * 1000, number * 1000 + options.samples)),
            # A natural spread of lengths.
            max(1, options.tokens * (1 + number % 4) // 4),
        )
        for number in range(options.prompts)
    ]


def _policy(shape: dict[str, int], dtype: torch.dtype) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    heads = {"num_attention_heads": max(4, shape["hidden_size"] // 64), "num_key_value_heads": 2, "head_dim": 64}
    config = Qwen3Config(**shape, **heads, max_position_embeddings=4096, tie_word_embeddings=True)
    return Qwen3ForCausalLM(config).to(dtype)


def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trainer", action="store_true", help="compare the trainer's rollout seconds instead")
    parser.add_argument("--steps", type=int, default=10, help="steps of the trainer that are counted")
    parser.add_argument("--refilling", action="store_true", help="compare the transformers engine with itself instead")
    parser.add_argument("--batch", type=int, default=64, help="sequences that it decodes at a time")
    parser.add_argument("--waves", type=int, default=8, help="batches' worth of responses that it is asked for")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", help="folder of a real model, to be sampled from on a CPU")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64], help="with --model: sequences at a time")
    parser.add_argument("--dtype", default="bfloat16" if torch.cuda.is_available() else "float32")
    return parser.parse_args()


if __name__ == "__main__":
    main()
