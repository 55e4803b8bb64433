"""The engine a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from masa.config.schema import RolloutSection
from masa.rollout.engine import RolloutEngine

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def make_engine(section: RolloutSection, model: PreTrainedModel, *, stop_ids: Sequence[int]) -> RolloutEngine:
    """An engine that samples from ``model``; ``stop_ids`` end a response. The caller closes it."""
    from masa.rollout.transformers import TransformersEngine

    return TransformersEngine(model, stop_ids=stop_ids, max_batch_size=section.max_batch_size)
