"""Chance: generators, and uniform numbers for many chains, few of them drawn."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch


@dataclass(frozen=True)
class Chance:
    """Where draws come from.

    With ``copies`` above 1 so many rows share their uniforms, turned by equal steps around the unit
    circle (Cranley and Patterson 1976): each row's are uniform, so each chain is drawn as it should
    be; but rows are no longer independent.
    """

    generator: torch.Generator | None = None
    copies: int = 1

    def uniforms(self, n_rows: int, n_columns: int, like: torch.Tensor) -> torch.Tensor:
        """Return uniforms in [0, 1), shape (n_rows, n_columns), of a tensor's type and device."""
        n_drawn = -(-n_rows // self.copies)
        drawn = torch.rand(
            (n_drawn, n_columns), generator=self.generator, dtype=like.dtype, device=like.device
        )
        if self.copies == 1:
            return drawn
        turns = _list_turns(self.copies, like.dtype, like.device)
        return (drawn + turns).frac_().view(-1, n_columns)[:n_rows]


def seed_generator(seed: int, epoch: int, worker: int, device: torch.device) -> torch.Generator:
    """Return a generator for an epoch, below 0 what comes before training, and a worker."""
    mixed = np.random.SeedSequence([seed, epoch % 2**32, worker]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(mixed[0] >> 1))


@cache
def _list_turns(copies: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the steps around the circle, shape (copies, 1, 1)."""
    return torch.arange(copies, dtype=dtype, device=device).view(-1, 1, 1) / copies
