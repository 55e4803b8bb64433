"""Run as a program on two processes: one of them fails, or both do, while the other waits for it."""

import sys
import time

from masa.distributed.peers import PeerWatch
from masa.distributed.processes import join_processes

state = join_processes()
failing = sys.argv[1].split(",")
with PeerWatch(seconds_to_close=1.0):
    if str(state.process_index) in failing:
        raise ValueError("no such thing\nand more")
    time.sleep(60)
