"""The policy of a run, from a model that was loaded or handed in: what must hold before anything samples or learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from masa.config.schema import ModelSection
from masa.model.cpu_products import use_cpu_products
from masa.model.lora import describe_adapters
from masa.model.routers import describe_routers
from masa.policy.forward.attention import settle_attention
from masa.policy.forward.liger import use_liger_kernels
from masa.policy.forward.policy_module import PolicyModule
from masa.policy.forward.unreached import freeze_unreached

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def open_policy(model: PreTrainedModel, section: ModelSection, *, temperature: float) -> tuple[PolicyModule, list[str]]:
    """The module that computes log-probs of ``model``, and what there is to say about it, in lines.

    Its attention is one that computes all of the model's, parameters that text inputs do not reach are frozen, and
    logits are made as the model makes them.

    Args:
        model: as `masa.model.loading.prepare_policy` leaves it, on its device.
        section: the configuration of the model.
        temperature: at which tokens are sampled.

    Raises:
        ConfigError: the model cannot be trained here, or not with these kernels.
    """
    notes = [describe_adapters(model), describe_routers(model), settle_attention(model, section.attention)]
    use_liger_kernels(model, section.liger_kernel)
    use_cpu_products(model)
    module = PolicyModule(model, temperature=temperature)
    frozen = freeze_unreached(module)
    if frozen:
        notes.append(f"{len(frozen)} parameters that text inputs do not reach are frozen, such as {frozen[0]}")
    return module, [line for line in notes if line]
