"""Rows of a hub data set, through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from masa.errors import brief
from masa.hub import hub_is_reachable
from masa.problems.errors import HubUnavailableError, ProblemDataError

_BATCH_ROWS = 1000


def hub_rows(name: str, split: str) -> Iterator[dict[str, Any]]:
    """The rows of one split of ``owner/name`` or ``owner/name:config``, downloaded or out of the local cache.

    Raises:
        HubUnavailableError: (at the first row asked for) the hub cannot be reached, and nothing is cached.
        ProblemDataError: no such data set, configuration or split.
    """
    repository, _, config = name.partition(":")
    from huggingface_hub import constants

    label = f"hub data set {repository!r} ({f'config {config!r}, ' if config else ''}split {split!r})"
    if not hub_is_reachable() and not constants.HF_HUB_OFFLINE:
        raise HubUnavailableError(
            f"{label} cannot be loaded: the hub cannot be reached. Give a local copy instead (the path of a .parquet, "
            ".json, .jsonl or .csv file), or set HF_HUB_OFFLINE=1 where it has been downloaded before"
        )
    try:
        import datasets

        table = datasets.load_dataset(repository, config or None, split=split).with_format("arrow")
    except Exception as error:  # `datasets` raises errors of many libraries: network, hub, arrow, its own
        # A data set, configuration or split that does not exist is a mistake; a network that fails is none.
        kind = HubUnavailableError if isinstance(error, ConnectionError | TimeoutError) else ProblemDataError
        raise kind(
            f"{label} cannot be loaded: {brief(error)}. Where there is no network, give a local "
            "copy instead: the path of a .parquet, .json, .jsonl or .csv file"
        ) from error
    for batch in table.iter(batch_size=_BATCH_ROWS):
        yield from batch.to_pylist()
