"""Several workers on one network: each has a share of the rows and chains of its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class Workers:
    """One worker among all of them."""

    rank: int = 0
    count: int = 1

    def average(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the means over workers of tensors that every worker has."""
        if self.count == 1:
            return list(tensors)
        flat = torch.cat([each.reshape(-1) for each in tensors])
        distributed.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [each.numel() for each in tensors])
        return [part.view_as(each) for part, each in zip(parts, tensors, strict=True)]

    def agree(self, number: int) -> bool:
        """Return whether every worker has the same number."""
        if self.count == 1:
            return True
        both = torch.tensor([number, -number])
        if torch.cuda.is_available():
            both = both.cuda()
        distributed.all_reduce(both, op=distributed.ReduceOp.MAX)
        return int(both[0]) == -int(both[1])

    def share(self, rows: torch.Tensor) -> torch.Tensor:
        """Return this worker's rows; every worker has as many."""
        n_each = len(rows) // self.count
        return rows[self.rank * n_each : (self.rank + 1) * n_each]


ALONE = Workers()


@contextmanager
def join_workers() -> Iterator[Workers]:
    """Join the workers that torch's launcher started (``torchrun``); nobody else: alone."""
    if not distributed.is_torchelastic_launched():
        yield ALONE
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Workers(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
