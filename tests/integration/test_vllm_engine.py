"""The vLLM engine in this process, against the policy that it is to sample from."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm_runs import make_vllm_engine, peak_memory

from masa.embedded import load_embedded_policy
from masa.model.packed_linears import packing_is_known
from masa.rollout import RolloutRequest, Sampling
from masa.rollout.engine import RolloutError
from masa.rollout.stop_texts import StopTexts
from masa.rollout.vllm import linears
from masa.rollout.weights.agreement import DisagreementError, check_agreement

STOP = 1
PLAIN = Sampling()
PROMPT_LENGTHS = (3, 40, 310, 333)


@pytest.fixture(scope="module", params=["tied", "untied"])
def pair(request: pytest.FixtureRequest, make_policy: Callable[..., Any]) -> Iterator[tuple[Any, Any]]:
    """A policy and an engine that has its weights."""
    policy = make_policy(tied=request.param == "tied")
    engine = make_vllm_engine(policy, STOP)
    yield engine, policy
    engine.close()


def _requests(sampling: Sampling = PLAIN, samples: int = 3) -> list[RolloutRequest]:
    return [
        RolloutRequest(
            f"p{length}",
            "solution",
            tuple(2 + (7 * place + length) % 200 for place in range(length)),
            tuple(random.Random(length).randrange(2**63) + index for index in range(samples)),
            12 + length % 5,
            sampling,
        )
        for length in PROMPT_LENGTHS
    ]


@torch.no_grad()
def _expected(policy: Any, rollout: Any, temperature: float) -> torch.Tensor:
    ids = torch.tensor([[*rollout.prompt_ids, *rollout.token_ids]])
    logits = policy(input_ids=ids).logits[0, len(rollout.prompt_ids) - 1 : -1] / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(rollout.token_ids)[:, None])[:, 0]


def _learn(policy: Any, seed: int) -> None:
    """Change every parameter, as an update does, only more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def _tokens(rollouts: list[list[Any]]) -> list[list[tuple[int, ...]]]:
    return [[rollout.token_ids for rollout in group] for group in rollouts]


def test_logprobs_are_the_policys_after_each_of_five_updates(pair: tuple[Any, Any]) -> None:
    engine, policy = pair
    for version in range(1, 6):
        _learn(policy, version)
        engine.update_weights(policy, version)
        for temperature in (1.0, 0.7):
            for group in engine.generate(_requests(Sampling(temperature))):
                for rollout in group:
                    difference = _expected(policy, rollout, temperature) - torch.tensor(rollout.logprobs)
                    assert difference.abs().max() <= 1e-5
                    assert rollout.weight_version == version


@pytest.mark.skipif(not packing_is_known(), reason="torch packs no weights for oneDNN on this processor")
def test_packed_weights_follow_every_update(make_policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linears, "LEAST_WEIGHTS", 0)
    policy = make_policy()
    engine = make_vllm_engine(policy, STOP)
    try:
        packed = engine._engine.apply_model(lambda model: sum(map(_is_packed, model.modules())))[0]
        assert packed > 4, "queries, keys and values as one, the outputs, both parts of the MLP, and the head"
        for version in (1, 2):
            _learn(policy, version)
            engine.update_weights(policy, version)
            assert check_agreement(engine, policy, stop_ids=[STOP]).holds
            for rollout in (one for group in engine.generate(_requests()) for one in group):
                difference = torch.tensor(rollout.logprobs) - _expected(policy, rollout, 1.0)
                assert float(difference.abs().max()) < 1e-5
    finally:
        engine.close()


def _is_packed(module: Any) -> bool:
    return getattr(getattr(module, "cpu_linear", None), "__module__", "") == linears.__name__


def test_agreement_is_proved_and_a_change_of_one_weight_disproves_it(pair: tuple[Any, Any]) -> None:
    engine, policy = pair
    engine.update_weights(policy, 1)
    assert check_agreement(engine, policy, stop_ids=[STOP]).holds
    with torch.no_grad():
        policy.model.norm.weight[0] += 2**-12
    try:
        agreement = check_agreement(engine, policy, stop_ids=[STOP])
        assert agreement.weights_equal is False
        assert not agreement.holds
    finally:
        engine.update_weights(policy, 2)


def test_a_prefix_cache_that_outlives_an_update_is_caught(
    pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, policy = pair
    assert check_agreement(engine, policy, stop_ids=[STOP]).holds
    _learn(policy, 77)
    monkeypatch.setattr(engine._engine, "reset_prefix_cache", lambda: True)
    engine.update_weights(policy, 3)
    agreement = check_agreement(engine, policy, stop_ids=[STOP])
    assert agreement.weights_equal, "the weights themselves are right"
    assert not agreement.holds
    monkeypatch.undo()
    assert check_agreement(engine, policy, stop_ids=[STOP]).holds


def test_tokens_depend_on_seeds_and_not_on_order_batch_or_share(pair: tuple[Any, Any]) -> None:
    engine, _ = pair
    requests = _requests()
    together = engine.generate(requests)
    assert _tokens(engine.generate(requests[::-1])) == _tokens(together)[::-1]
    # What each of two processes would be given.
    halves = [engine.generate(requests[start::2]) for start in (0, 1)]
    assert _tokens(halves[0]) == _tokens(together)[0::2]
    assert _tokens(halves[1]) == _tokens(together)[1::2]
    alone = engine.generate([replace(requests[2], seeds=requests[2].seeds[1:2])])
    assert alone[0][0].token_ids == together[2][1].token_ids
    assert engine.generate(requests)[0][0].logprobs == together[0][0].logprobs


def test_responses_stop_at_a_stop_token_and_at_their_own_limit(pair: tuple[Any, Any]) -> None:
    engine, _ = pair
    rollouts = [one for group in engine.generate(_requests(Sampling(2.0), samples=60)) for one in group]
    limits = {f"p{length}": 12 + length % 5 for length in PROMPT_LENGTHS}
    reasons = {rollout.finish_reason for rollout in rollouts}
    assert reasons == {"stop", "length"}
    for rollout in rollouts:
        assert STOP not in rollout.token_ids[:-1]
        assert (rollout.token_ids[-1] == STOP) == (rollout.finish_reason == "stop")
        assert rollout.finish_reason == "stop" or len(rollout.token_ids) == limits[rollout.problem_id]


class Letters:
    """A tokenizer with one character a token."""

    def decode(self, ids: list[int], **_: bool) -> str:
        return "".join(chr(0x4E00 + one) for one in ids)


def test_a_text_ends_samples_that_are_otherwise_what_they_were(
    pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, policy = pair
    engine.update_weights(policy, 9)
    letters: Any = Letters()
    free = [one for group in engine.generate(_requests(samples=6)) for one in group]
    stops = StopTexts(letters, [letters.decode(list(free[0].token_ids[3:5])), letters.decode([free[7].token_ids[2]])])
    monkeypatch.setattr(engine, "_stop_texts", stops)
    told: list[Any] = []
    found = engine.generate(_requests(samples=6), lambda _, one: told.append(one))
    stopped = [one for group in found for one in group]
    assert sorted(told, key=str) == sorted(stopped, key=str)
    assert len(stopped[0].token_ids) <= 5
    for before, after in zip(free, stopped, strict=True):
        expected = stops.cut(before)
        assert (after.token_ids, after.finish_reason) == (expected.token_ids, expected.finish_reason)
        torch.testing.assert_close(after.logprobs, expected.logprobs, rtol=0, atol=1e-5)
    # Nothing of those that were given up is left over.
    monkeypatch.undo()
    assert _tokens(engine.generate(_requests(samples=6))) == [
        [one.token_ids for one in free[start : start + 6]] for start in range(0, len(free), 6)
    ]


def test_the_samples_of_a_prompt_share_its_prefix(pair: tuple[Any, Any]) -> None:
    engine, _ = pair
    engine.statistics()
    engine.generate(_requests(samples=8)[-1:])
    statistics = engine.statistics()
    # 333 tokens are two whole blocks of 128; seven of eight samples find them.
    assert statistics["rollout/prefix_hit_rate"] == pytest.approx(7 * 256 / (8 * 333))
    assert 1.0 <= statistics["rollout/requests_running"] <= 8.0


def test_the_process_is_left_as_it_was(pair: tuple[Any, Any]) -> None:
    import os

    engine, _ = pair
    before = torch.get_rng_state()
    engine.generate(_requests())
    assert torch.equal(torch.get_rng_state(), before)
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in os.environ
    torch.set_num_threads(2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_a_request_that_is_too_long_is_refused_before_anything_is_sampled(pair: tuple[Any, Any]) -> None:
    engine, _ = pair
    too_long = RolloutRequest("long", "meta", (5,) * 1020, (1,), 10)
    with pytest.raises(RolloutError, match=r"problem 'long': the meta prompt has 1020 tokens .* 1030 together"):
        engine.generate([too_long])
    assert len(engine.generate(_requests())) == 4


def test_an_interrupted_batch_leaves_nothing_behind(pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = pair
    expected = _tokens(engine.generate(_requests()))
    step, calls = engine._engine.step, iter(range(100))

    def interrupted() -> Any:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(engine._engine, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.generate(_requests())
    monkeypatch.undo()
    assert not engine._engine.has_unfinished_requests()
    assert _tokens(engine.generate(_requests())) == expected


def test_a_tied_head_that_keeps_an_old_copy_of_its_weights_is_caught(
    make_policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack_weights() -> None:
        from vllm import _custom_ops

        monkeypatch.setattr(_custom_ops, "_supports_onednn", True)

    monkeypatch.setattr("masa.rollout.vllm.process.keep_weights_unpacked", pack_weights)
    policy = make_policy()
    engine = make_vllm_engine(policy, STOP)
    try:
        # What was packed follows an update, but for the head: that the embedding has new weights goes unnoticed there.
        agreement = check_agreement(engine, policy, stop_ids=[STOP])
        assert agreement.difference > 0.01
        with pytest.raises(DisagreementError, match="does not sample from the policy"):
            agreement.require()
    finally:
        engine.close()


def test_an_update_holds_no_second_copy_of_the_weights(make_policy: Callable[..., Any]) -> None:
    size = {"vocab_size": 4096, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8}
    policy = make_policy(**size)
    weight_bytes = sum(one.numel() * one.element_size() for one in policy.parameters())
    engine = make_vllm_engine(policy, STOP)
    try:
        peak = peak_memory(lambda: engine.update_weights(policy, 1))
        copies: list[torch.Tensor] = []
        control = peak_memory(lambda: copies.extend(one.detach().clone() for one in policy.parameters()))
    finally:
        engine.close()
    assert control > 0.7 * weight_bytes, "the measurement sees memory"
    assert peak < 0.3 * weight_bytes


def test_an_engine_works_on_the_device_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from masa.rollout.vllm.executor import OwnDeviceExecutor

    executor = OwnDeviceExecutor.__new__(OwnDeviceExecutor)
    executor.vllm_config = SimpleNamespace(device_config=SimpleNamespace(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    _, rank, local_rank = executor._distributed_args()
    assert (rank, local_rank) == (0, 3)


def test_a_policy_in_bfloat16_agrees_with_its_engine_and_its_changed_weights_do_not() -> None:
    policy = load_embedded_policy().to(torch.bfloat16)
    engine = make_vllm_engine(policy, STOP)
    try:
        agreement = check_agreement(engine, policy, stop_ids=[STOP])
        assert agreement.weights_equal
        assert 0 < agreement.difference < agreement.tolerance
        _learn(policy, 1)
        assert not check_agreement(engine, policy, stop_ids=[STOP]).holds
    finally:
        engine.close()
