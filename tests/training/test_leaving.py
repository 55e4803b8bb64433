"""A run that is done leaves the group of its processes, whose open connections can abort Python at its end."""

import pytest
import torch
from torch.distributed import HashStore

from masa.train import main


@pytest.fixture
def group():
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Trainer:
    def __init__(self, config):
        assert torch.distributed.is_initialized()

    def train(self, resume=False):
        assert torch.distributed.is_initialized()


def test_the_command_leaves_the_group_once_it_has_trained(group, monkeypatch):
    monkeypatch.setattr("masa.trainer.MASATrainer", Trainer)
    assert main(["--config", "configs/quickstart.yaml"]) == 0
    assert not torch.distributed.is_initialized()
