"""Rollouts as arrays: nothing is lost, and a token takes 8 bytes."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from masa.controls.batch import StepBatch
from masa.flow.ahead import RolloutsAhead
from masa.flow.saved_batches import ahead_of_json
from masa.problems import Problem
from masa.rollout import Rollout
from masa.rollout.waiting import Waiting, rollout_arrays, rollouts_of

PROBLEMS = [Problem(id=f"q{number}", statement=f"{number}?", answer=str(number)) for number in range(4)]


def _group(problem: Problem, length: int, size: int = 2, hint: str | None = None) -> list[Rollout]:
    generator = torch.Generator().manual_seed(length)
    return [
        Rollout(
            problem_id=problem.id,
            path="solution",
            index=index,
            prompt_ids=tuple(range(40)),
            token_ids=tuple(torch.randint(150_000, (length + index,), generator=generator).tolist()),
            logprobs=tuple((-torch.rand(length + index, generator=generator)).tolist()),
            finish_reason="stop" if index else "length",
            weight_version=7,
            seconds=0.1 + index / 3,
            hint=hint,
        )
        for index in range(size)
    ]


def test_rollouts_come_back_from_their_file_bit_for_bit(tmp_path: Path) -> None:
    rollouts = [*_group(PROBLEMS[0], 5, hint="Think of ∑ and “π”."), *_group(PROBLEMS[1], 1), *_group(PROBLEMS[2], 9)]
    save_file(rollout_arrays(rollouts), tmp_path / "rollouts.safetensors")
    arrays = load_file(tmp_path / "rollouts.safetensors")
    assert rollouts_of(arrays) == rollouts
    assert (arrays["token_ids"].dtype, arrays["logprobs"].dtype) == (torch.int32, torch.float32)
    assert len(arrays["prompt_offsets"]) - 1 == 1  # the groups have one prompt, which is kept once


def test_no_rollouts_are_arrays_as_well() -> None:
    assert rollouts_of(rollout_arrays([])) == []


def test_a_token_takes_8_bytes_and_a_rollout_a_few_more() -> None:
    rollouts = _group(PROBLEMS[0], 1000, size=8)
    tokens = sum(len(one.token_ids) for one in rollouts)
    size = sum(array.nbytes for array in rollout_arrays(rollouts).values())
    assert 8 * tokens <= size < 8 * tokens + 1000
    assert size < 0.35 * len(json.dumps([asdict(one) for one in rollouts], default=list))


def _taken(state: Waiting, step: int) -> StepBatch:
    ahead = RolloutsAhead(lambda step: StepBatch([], [], []), 1, 9)
    ahead.restore([state], PROBLEMS, list)
    batch = ahead.take(step)
    ahead.close()
    return batch


def test_batches_ahead_of_an_earlier_version_are_read_from_their_json() -> None:
    batches = {step: [_group(one, 3 + step) for one in PROBLEMS[step : step + 2]] for step in (1, 2)}
    earlier = [
        {
            "step": step,
            "problems": [one.id for one in PROBLEMS[step : step + 2]],
            "groups": [[asdict(one) for one in group] for group in groups],
        }
        for step, groups in batches.items()
    ]
    state = ahead_of_json(json.loads(json.dumps(earlier, default=list)))
    for step, groups in batches.items():
        assert _taken(state, step) == StepBatch(PROBLEMS[step : step + 2], PROBLEMS[step : step + 2], groups)
