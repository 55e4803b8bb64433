"""Servers that answer late and in any order change nothing: tokens and decisions are those of prompt servers."""

import json
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from policy_server import PolicyServer
from safetensors.torch import load_file
from small_controls import CUTOFF, GATING, HINTING, SMALL

from masa import Callback, MASATrainer, load_config
from masa.embedded import load_embedded_policy, load_embedded_tokenizer
from masa.rewards import VerifierPool
from masa.rollout.engine import Rollout
from masa.rollout.transformers.engine import TransformersEngine
from masa.run_state import RunState
from masa.tracking.keys import is_timing

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
SERVED = (
    *SMALL,
    "rollout.engine=vllm_server",
    "rollout.max_batch_size=16",
    "rollout.check_at_start=false",
    "checkpoint.every=0",
    "run.steps=2",
)
ALL = (*GATING, *CUTOFF, *HINTING)
DYNAMIC = ("algorithm.dynamic_sampling.enabled=true", "algorithm.meta=false")
# What a run notes of servers' queues is the clock's; log-probs are compared by themselves.
_OF_SERVERS = ("rollout/requests_", "policy/engine_")


@dataclass
class Seen(Callback):
    """What a run sampled, and the seeds of its samples in the order in which each server answered."""

    rollouts: list[Rollout] = field(default_factory=list)
    answered: list[list[int]] = field(default_factory=list)

    def on_rewards(self, run: RunState) -> None:
        self.rollouts += [one for group in run.groups for one in (*group.solutions, *group.metas)]


def _train(folder: Path, options: Sequence[str], longest: float, dtype: torch.dtype) -> Seen:
    """A run with two servers, at which each request waits for up to ``longest`` seconds, twice."""
    seen = Seen()
    with ExitStack() as stack:
        servers = []
        for number in range(2):
            stop_ids = [load_embedded_tokenizer().eos_token_id]
            engine = TransformersEngine(load_embedded_policy().to(dtype), stop_ids=stop_ids, max_batch_size=16)
            server = PolicyServer(engine, longest, random.Random(number))
            servers.append(stack.enter_context(server.serving()))
        addresses = ",".join(server.url for server in servers)
        config = load_config(QUICKSTART, [*SERVED, *options, f"rollout.servers=[{addresses}]", f"run.dir={folder}"])
        MASATrainer(config, callbacks=[seen]).train()
        seen.answered = [server.answered for server in servers]
    return seen


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: one for key, one in row.items() if not (is_timing(key) or key.startswith(_OF_SERVERS))} for row in rows
    ]


@pytest.mark.parametrize(
    ("options", "dtype", "tolerance"),
    [
        pytest.param(ALL, torch.float64, 1e-6, id="all controls"),
        pytest.param(DYNAMIC, torch.float64, 1e-6, id="dynamic sampling"),
        # In float32 logits of size 10 are rounded by 5e-7, after many sums that were: who shares a batch shows, in one
        # of ten runs by more than 1e-5. A log-prob of another token or prefix is off by far more than 1e-4.
        pytest.param(ALL, torch.float32, 1e-4, id="all controls, servers in float32", marks=pytest.mark.slow),
    ],
)
def test_servers_and_verifiers_that_are_late_change_no_token_and_no_decision(
    tmp_path: Path,
    options: Sequence[str],
    dtype: torch.dtype,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = _train(tmp_path / "prompt", options, 0.0, dtype)
    verify, delays = VerifierPool.verify, random.Random(0)

    def verify_late(*arguments: Any, **named: Any) -> Any:
        time.sleep(delays.uniform(0.0, 0.1))
        return verify(*arguments, **named)

    monkeypatch.setattr(VerifierPool, "verify", verify_late)
    found = _train(tmp_path / "late", options, 0.05, dtype)
    asked, late = ([seed for seeds in one.answered for seed in seeds] for one in (expected, found))
    assert sorted(late) == sorted(asked)
    assert late != asked, "answers came in the same order: nothing was late"
    for one, other in zip(found.rollouts, expected.rollouts, strict=True):
        assert replace(one, logprobs=other.logprobs, seconds=other.seconds) == other
        assert [*one.logprobs] == pytest.approx([*other.logprobs], rel=0, abs=tolerance)
    assert _rows(tmp_path / "late") == _rows(tmp_path / "prompt")
    weights, prompt_weights = (
        load_file(tmp_path / name / "checkpoints" / "step_000002" / "model.safetensors") for name in ("late", "prompt")
    )
    assert all(weights[key].equal(prompt_weights[key]) for key in prompt_weights)
    _assert_decisions_were_made(expected, _rows(tmp_path / "prompt")[1:], controls=options is ALL)


def _assert_decisions_were_made(seen: Seen, rows: Sequence[dict[str, Any]], *, controls: bool) -> None:
    if controls:
        assert sum(row["cost/problems_gated"] for row in rows) > 0
        assert any(one.cut for one in seen.rollouts)
        assert any(one.hint for one in seen.rollouts)
    else:
        assert sum(row["rollout/dynamic_rounds"] for row in rows) > 0
