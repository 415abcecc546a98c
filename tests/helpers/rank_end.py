"""How a process that a test starts as one of several ranks ends."""

import os
import sys

import torch.distributed as dist


def end_rank():
    """End this process with success once all ranks have come here, without destroying their group.

    The threads of a gloo group now and then abort a process that destroys it or ends in the ordinary way (torch 2.13),
    after all its work is done.
    """
    if dist.is_initialized():
        dist.barrier()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)
