"""Texts that end a response: the token that completes one of them is the last one, in every engine."""

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from masa.config import ConfigError, load_config
from masa.embedded import load_embedded_policy, load_embedded_tokenizer
from masa.rollout import Rollout, RolloutRequest
from masa.rollout.factory import make_engine
from masa.rollout.servers.completions import Stops, completed_rollout, completion_body
from masa.rollout.stop_texts import StopTexts
from masa.rollout.vllm import sampling as vllm_sampling

# Both are completed in the middle of a token: `. A` of ` Answer`, `ime. ` of ` a`.
TEXTS = ["ime. ", "it. A"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_embedded_tokenizer()


@pytest.fixture(scope="module")
def texts(tokenizer: Any) -> StopTexts:
    return StopTexts(tokenizer, TEXTS)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _rollout(token_ids: Sequence[int], reason: Any = "length") -> Rollout:
    logprobs = tuple(-float(place) for place in range(len(token_ids)))
    return Rollout("p", "solution", 0, (5,), tuple(token_ids), logprobs, reason, 0, 0.0)


def _expected(tokenizer: Any, token_ids: Sequence[int]) -> int | None:
    """Token by token, by the definition."""
    for count in range(1, len(token_ids) + 1):
        if any(text in tokenizer.decode(list(token_ids[:count])) for text in TEXTS):
            return count
    return None


@pytest.mark.parametrize("reason", ["length", "stop"])
def test_a_rollout_is_cut_behind_the_token_that_completes_a_text(tokenizer: Any, texts: StopTexts, reason: str) -> None:
    ids = _ids(tokenizer, "By rounding. One step at a time. a=12; b:12+3=15; I checked it. Answer: 15")
    end = _expected(tokenizer, ids)
    assert end is not None
    assert tokenizer.decode(ids[:end]).endswith("time. a")
    cut = texts.cut(_rollout(ids, reason))
    assert (list(cut.token_ids), cut.finish_reason) == (ids[:end], "stop")
    assert cut.logprobs == tuple(-float(place) for place in range(end))


def test_a_rollout_without_a_text_stays_as_it_is(tokenizer: Any, texts: StopTexts) -> None:
    rollout = _rollout(_ids(tokenizer, "By running total. a=6; Answer: 15"))
    assert texts.cut(rollout) is rollout


def test_a_character_of_several_tokens_completes_a_text_with_its_last_one(tokenizer: Any) -> None:
    ids = _ids(tokenizer, "a=1。b=2")
    stop = StopTexts(tokenizer, ["。"])
    end = stop.end(ids)
    assert end is not None
    assert len(_ids(tokenizer, "。")) == 3
    assert tokenizer.decode(ids[:end]) == "a=1。"
    assert not stop.contained(ids[: end - 1])


def test_a_special_token_can_be_a_text(tokenizer: Any) -> None:
    ids = [*_ids(tokenizer, "a=1"), *_ids(tokenizer, "<|user|>"), *_ids(tokenizer, "b")]
    assert StopTexts(tokenizer, ["<|user|>"]).end(ids) == len(ids) - 1


def _requests(tokenizer: Any, limits: Sequence[int]) -> list[RolloutRequest]:
    found = []
    for place, limit in enumerate(limits):
        text = f"Find the sum: a={place + 3}, b=5, c=3."
        ids = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
        ids = ids["input_ids"] if hasattr(ids, "keys") else ids
        found.append(RolloutRequest(str(place), "solution", tuple(ids), tuple(range(place, place + 6)), limit))
    return found


# With 5 rows waiting samples take the rows of those that have ended.
@pytest.mark.parametrize("rows", [5, 256])
def test_the_engine_in_process_samples_what_it_would_without_texts_up_to_their_end(tokenizer: Any, rows: int) -> None:
    policy = load_embedded_policy()
    requests = _requests(tokenizer, (64, 64, 9))
    found: dict[bool, list[Rollout]] = {}
    for stops in (False, True):
        options = {"rollout.stop": TEXTS if stops else [], "rollout.max_batch_size": rows}
        section = load_config(None, {**options, "rollout.engine": "transformers"}).rollout
        engine = make_engine(section, policy, stop_ids=[tokenizer.eos_token_id], tokenizer=tokenizer)
        told: list[Rollout] = []
        found[stops] = [
            one for group in engine.generate(requests, lambda _, one, told=told: told.append(one)) for one in group
        ]
        assert {(one.problem_id, one.index, one.token_ids) for one in told} == {
            (one.problem_id, one.index, one.token_ids) for one in found[stops]
        }
    ends = [_expected(tokenizer, one.token_ids) for one in found[False]]
    assert len(set(ends)) > 3
    assert None in ends
    for free, stopped, end in zip(found[False], found[True], ends, strict=True):
        assert stopped.token_ids == free.token_ids[:end]
        assert stopped.finish_reason == (free.finish_reason if end is None else "stop")
        torch.testing.assert_close(stopped.logprobs, free.logprobs[:end], rtol=0, atol=1e-5)


class _Engine:
    """Stands for vLLM's engine: one token a request and step, and what was aborted."""

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._token_ids = token_ids
        self._asked: list[str] = []
        self.aborted: list[str] = []
        self._count = 0

    def add_request(self, name: str, prompt: Any, parameters: Any, **_: Any) -> None:
        self._asked.append(name)
        self.parameters = parameters

    def has_unfinished_requests(self) -> bool:
        return len(self.aborted) < len(self._asked) and self._count < len(self._token_ids)

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names

    def step(self) -> list[Any]:
        self._count += 1
        ids = list(self._token_ids[: self._count])
        logprobs = [{one: SimpleNamespace(logprob=-1.0)} for one in ids]
        done = self._count == len(self._token_ids)
        completion = SimpleNamespace(token_ids=ids, logprobs=logprobs, finish_reason="length" if done else None)
        return [
            SimpleNamespace(request_id=name, finished=done, outputs=[completion])
            for name in self._asked
            if name not in self.aborted
        ]


@pytest.mark.parametrize("text", ["One step at a time. a=12; b", "By running total; b"])
def test_a_sample_of_vllm_is_given_up_at_the_token_that_completes_a_text(
    tokenizer: Any, texts: StopTexts, text: str
) -> None:
    pytest.importorskip("vllm")
    ids = _ids(tokenizer, text)
    engine: Any = _Engine(ids)
    sampling = vllm_sampling.Sampling([4], None, 3, threading.Event(), texts)
    request = RolloutRequest("p", "solution", (5, 6), (1,), len(ids))
    batch = vllm_sampling.VllmBatch(engine, sampling)
    (rollout,) = (one.rollout for one in batch.advance([request]))
    assert batch.advance([]) == []
    end = _expected(tokenizer, ids)
    assert list(rollout.token_ids) == ids[:end]
    assert (rollout.finish_reason, engine.aborted) == (("length", []) if end is None else ("stop", ["0"]))


def test_a_server_is_asked_for_the_texts_and_its_answer_ends_with_one_of_them(tokenizer: Any, texts: StopTexts) -> None:
    request = RolloutRequest("p", "solution", (5, 6), (1,), 40)
    stops = Stops([4], texts)
    body = completion_body(request, 0, model="m", stop_ids=[4], stop_texts=texts)
    assert (body["stop"], body["stop_token_ids"]) == (TEXTS, [4])
    assert (body["include_stop_str_in_output"], body["skip_special_tokens"]) == (True, False)
    ids = _ids(tokenizer, "One step at a time. a=12")
    end = _expected(tokenizer, ids)
    # Several tokens of one step can come beyond the text.
    for beyond in (0, 2):
        choice = {
            "finish_reason": "stop",
            "stop_reason": "ime. ",
            "token_ids": ids[: (end or 0) + beyond],
            "logprobs": {"token_logprobs": [-1.0] * ((end or 0) + beyond)},
        }
        rollout = completed_rollout(request, 0, {"choices": [choice]}, 5, 0.1, stops=stops)
        assert (list(rollout.token_ids), len(rollout.logprobs)) == (ids[:end], end)


def test_a_request_to_a_server_says_nothing_of_texts_where_there_are_none() -> None:
    body = completion_body(RolloutRequest("p", "solution", (5,), (1,), 4), 0, model="m", stop_ids=[4])
    assert not {"stop", "include_stop_str_in_output", "skip_special_tokens"} & set(body)


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rollout\.stop"):
        load_config(None, {"rollout.stop": ["a", ""]})


@pytest.mark.parametrize("text", ["</meta>", "meta", "<"])
def test_a_text_that_every_meta_prediction_holds_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"rollout\.stop: found .*, which is part of <meta> and </meta>"):
        load_config(None, {"rollout.stop": [text]})
    load_config(None, {"rollout.stop": [text], "algorithm.meta": False})


def test_an_engine_that_is_to_look_for_texts_needs_a_tokenizer() -> None:
    section = load_config(None, {"rollout.stop": ["x"], "rollout.engine": "transformers"}).rollout
    with pytest.raises(ValueError, match=r"rollout\.stop needs the tokenizer"):
        make_engine(section, load_embedded_policy(), stop_ids=[4])
