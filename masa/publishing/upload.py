"""A folder uploaded to the hub, and what of a checkpoint goes there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from masa.checkpointing.checkpoint import STATE
from masa.checkpointing.saving import TRAINING_FOLDER
from masa.errors import brief

_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


class HubPushError(RuntimeError):
    """The hub did not take an upload."""


def missing_for_upload() -> str | None:
    """What an upload would fail for, as far as that is known from here; None where nothing is lacking."""
    from huggingface_hub import constants, get_token

    from masa.hub import ask_hub

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if get_token() is None:
        return f"there is no token; {_LOG_IN}"
    if not ask_hub():
        return f"{constants.ENDPOINT} cannot be reached from here"
    return None


def upload(folder: Path, repo_id: str, *, private: bool, token: str | None, message: str) -> str:
    """Upload a folder as one commit to a repository, which is made where there is none; the commit's address.

    Raises:
        HubPushError: the hub cannot be reached, or refuses, or has a public repository where a private one was asked
            for.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        found = api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(found.repo_id).private:
            raise PermissionError(f"{found.repo_id} is public, and a private repository was asked for")
        commit = api.upload_folder(repo_id=found.repo_id, folder_path=folder, commit_message=message)
    except Exception as error:  # of the network, of the token, of the hub's rules: all are one to the user
        raise HubPushError(f"{repo_id} was not uploaded: {brief(error)}") from error
    return str(commit.commit_url)


def link_model(checkpoint: Path, folder: Path) -> None:
    """The model and tokenizer of a checkpoint, as links in ``folder``, which stay when the checkpoint is removed.

    The state of training is left out. Where the file system has no links, files are copied.
    """
    for path in sorted(checkpoint.rglob("*")):
        inside = path.relative_to(checkpoint)
        if not path.is_file() or inside.parts[0] in (STATE, TRAINING_FOLDER):
            continue
        place = folder / inside
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copy2(path, place)
