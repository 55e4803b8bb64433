"""What is asked of `transformers` goes by the names that the installed version has."""

import warnings

from small_policies import small_qwen3

from masa.config.schema import ModelSection
from masa.model.loading import prepare_policy
from masa.policy.batching.shared_prompts import can_share_prompts
from masa.rollout.engine import RolloutRequest
from masa.rollout.transformers.engine import TransformersEngine


def test_nothing_deprecated_is_called() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        model = prepare_policy(small_qwen3(), ModelSection(gradient_checkpointing=True))
        assert not can_share_prompts(model)
        engine = TransformersEngine(model, stop_ids=[1])
        engine.check_decoding()
        engine.generate([RolloutRequest("p", "solution", (2, 3), (0, 1), 4)])
