"""Run as a program on two processes: how long the groups of a run wait, DeepSpeed's own among them."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
from update_cases import deepspeed_accelerator, make_updater

from masa.distributed.processes import extend_time_limits

accelerator = deepspeed_accelerator(2)
make_updater(accelerator)
extend_time_limits(180)
groups = list(torch.distributed.distributed_c10d._world.pg_map)
waits = [group._get_backend(torch.device("cpu")).options._timeout for group in groups]
if accelerator.is_main_process:
    Path(sys.argv[1]).write_text(f"{len(groups)} {all(wait == timedelta(minutes=180) for wait in waits)} {waits}")
accelerator.wait_for_everyone()
