"""What a density must beat: independent units, and a chain of logistic regressions."""

import torch

from ml.world_model.visible import Layout, fit_biases, sum_out_visible

_BATCH, _EPOCHS, _RATE = 1024, 12, 3e-3


def score_independent(layout: Layout, training: torch.Tensor, held_out: torch.Tensor) -> float:
    """Return the mean log-likelihood of held-out rows under independent groups, nats a row."""
    bias = fit_biases(layout, training.mean(dim=0))
    return float((held_out @ bias).mean() - sum_out_visible(layout, bias[None]))


def score_chain(layout: Layout, training: torch.Tensor, held_out: torch.Tensor) -> float:
    """Return the mean log-likelihood under a chain: each group given those before it, linearly.

    A fully visible belief network of softmax and logistic regressions, trained together by Adam.
    """
    mask = _mask(layout)
    weight = torch.zeros(layout.n_units, layout.n_units, requires_grad=True)
    bias = fit_biases(layout, training.mean(dim=0)).requires_grad_(True)
    optimiser = torch.optim.Adam([weight, bias], lr=_RATE)
    generator = torch.Generator().manual_seed(0)
    n_steps = max(1, len(training) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _EPOCHS * n_steps)
    for _ in range(_EPOCHS):
        order = torch.randperm(len(training), generator=generator)
        for step in range(n_steps):
            rows = training[order[step * _BATCH : (step + 1) * _BATCH]]
            with torch.enable_grad():
                loss = -_log_likelihood(layout, rows, rows @ (weight * mask) + bias).mean()
                optimiser.zero_grad()
                torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        field = held_out @ (weight * mask) + bias
        return float(_log_likelihood(layout, held_out, field).mean())


def _mask(layout: Layout) -> torch.Tensor:
    """Return which unit may drive which: those of earlier groups, shape (V, V)."""
    group = torch.tensor(
        [place for place, each in enumerate(layout.groups) for _ in range(each.size)]
    )
    return (group[:, None] < group[None, :]).float()


def _log_likelihood(layout: Layout, rows: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """Return each row's log-likelihood given fields, shape (n,)."""
    flags = torch.nn.functional.softplus(field[:, layout.flags]).sum(dim=1)
    total = (rows * field).sum(dim=1) - flags
    for columns in layout.one_hots:
        total = total - torch.logsumexp(field[:, columns], dim=1)
    return total
