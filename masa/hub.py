"""Whether the model and data hub can be reached, asked once: libraries retry for minutes where it cannot."""

from __future__ import annotations

from functools import cache

_TIMEOUT_SECONDS = 5.0


@cache
def hub_is_reachable() -> bool:
    """Whether the hub answered when this was asked first; False at once where HF_HUB_OFFLINE says so."""
    return ask_hub()


def ask_hub() -> bool:
    """Whether the hub answers now; False at once where HF_HUB_OFFLINE says so."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        httpx.head(constants.ENDPOINT, timeout=_TIMEOUT_SECONDS)
    except httpx.HTTPError:
        return False
    return True
