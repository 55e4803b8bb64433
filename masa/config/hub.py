"""Options of uploads to the Hugging Face hub."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import field_validator

from masa.config.section import Section

_REPOSITORY = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*")


def require_repository(name: str) -> str:
    """The name itself, where the hub could have a repository of this name.

    Raises:
        ValueError: it could not.
    """
    if not _REPOSITORY.fullmatch(name) or name.endswith(".git") or ".." in name or "--" in name:
        raise ValueError(f"found {name!r}, allowed: owner/name, or the name alone")
    return name


class HubSection(Section):
    """Upload of the policy to the Hugging Face hub, with a model card made from the run."""

    repo: str | None = None
    """Repository that the policy is uploaded to, `owner/name`, or the name alone under your own account; null: nothing
    is uploaded. The token is that of `hf auth login` or HF_TOKEN."""
    when: Literal["end", "checkpoints"] = "end"
    """`end`: the last checkpoint, when the run has come to its end; `checkpoints`: each checkpoint as well, in the
    background, as one commit each. The state of training is never uploaded."""
    private: bool = True
    """Make a private repository, and upload to a private one alone. False: the policy is public."""

    @field_validator("repo")
    @classmethod
    def _repository_can_be(cls, name: str | None) -> str | None:
        return None if name is None else require_repository(name)
