"""Losses that mixtures of experts have for their routers, beside that of the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def configs_with_router_losses(model: PreTrainedModel) -> list[Any]:
    """Those of the model's configurations, the whole one and that of its text part, that ask for router logits."""
    configs: dict[int, Any] = {id(one): one for one in (model.config, model.config.get_text_config())}
    return [one for one in configs.values() if getattr(one, "output_router_logits", False)]


def describe_routers(model: PreTrainedModel) -> str | None:
    """That the losses a configuration asks for are not trained, in a line; None where it asks for none."""
    asking = configs_with_router_losses(model)
    if not asking:
        return None
    coefficient = getattr(asking[0], "router_aux_loss_coef", None)
    weight = "" if coefficient is None else f" and router_aux_loss_coef {coefficient}"
    return (
        f"{type(model).__name__} is configured with output_router_logits{weight}: auxiliary losses of routers are not "
        "trained, the policy's loss is the one that algorithm.* names"
    )
