"""A policy handed over: to a folder that `transformers` loads, or to the Hugging Face hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate import PartialState

from masa.errors import brief
from masa.policy.sharded import is_sharded
from masa.saving import write_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class HubPushError(RuntimeError):
    """The hub did not take an upload."""


def save_policy(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Write model (adapters merged) and tokenizer; of several processes the first one writes.

    Raises:
        ValueError: the model is sharded over processes.
    """
    if is_sharded(model):
        raise ValueError(
            "the policy is sharded over the processes of the run; the newest folder in checkpoints/ of the run "
            "directory holds it whole"
        )
    if PartialState().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_model(folder, model)
        tokenizer.save_pretrained(folder)
    return folder


def push_policy(
    repo_id: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    private: bool,
    token: str | None,
    message: str,
) -> str:
    """Upload what `save_policy` writes; returns the address of the commit, and on processes but the first "".

    Raises:
        ValueError: the model is sharded over processes.
        HubPushError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        save_policy(Path(folder), model, tokenizer)
        if not PartialState().is_main_process:
            return ""
        api = HfApi(token=token)
        try:
            found = api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=found.repo_id, folder_path=folder, commit_message=message)
        except Exception as error:  # of the network, of the token, of the hub's rules: all are one to the user
            raise HubPushError(
                f"{repo_id} was not uploaded: {brief(error)}. Log in with `hf auth login` or set HF_TOKEN, "
                "or write the policy with save(folder) and upload the folder later"
            ) from error
    return str(commit.commit_url)
