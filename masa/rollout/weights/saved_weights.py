"""The policy's weights as a checkpoint holds them, which is what vLLM's loaders read.

The modules of some architectures in transformers, mixtures of experts above all, have other names than their
checkpoints, and hold in one tensor what lies there in many. Transformers undoes both when it saves a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SavedWeights:
    """Gives the weights of ``model`` under the names and in the shapes of its checkpoints.

    A model whose checkpoints hold in one tensor what the model holds in several is left as it is: its weights come one
    after the other.
    """

    def __init__(self, model: object) -> None:
        from transformers import PreTrainedModel

        # Wrappers hold the model whose checkpoints are meant; another kind of model has its own names.
        parts = model.modules() if isinstance(model, nn.Module) else ()
        plain = next((one for one in parts if isinstance(one, PreTrainedModel)), None)
        self._model = plain if plain is not None and _splits_only(plain) else None

    def __call__(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """``weights``, which have the names of the plain model, one after the other."""
        if self._model is None:
            yield from weights
            return
        from transformers.core_model_loading import revert_weight_conversion

        for name, tensor in weights:
            yield from revert_weight_conversion(self._model, {name: tensor.detach()}).items()


def come_together(model: PreTrainedModel) -> bool:
    """Whether a tensor of the checkpoints of ``model`` may come from several of the model's."""
    return bool(_conversions(model)) and not _splits_only(model)


def _splits_only(model: PreTrainedModel) -> bool:
    """Whether checkpoints of ``model`` differ from it, and every tensor of theirs comes from one of the model's."""
    conversions = _conversions(model)
    return bool(conversions) and all(len(one.reverse_transform().source_patterns) == 1 for one in conversions)


def _conversions(model: PreTrainedModel) -> list[Any]:
    from transformers.conversion_mapping import get_model_conversion_mapping

    conversions: list[Any] | None = getattr(model, "_weight_conversions", None)
    return get_model_conversion_mapping(model, add_legacy=False) if conversions is None else conversions
