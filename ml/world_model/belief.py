"""The belief: what a frozen network makes of a row, for every other part to use."""

import numpy as np
import torch

from ml.world_model.network import Network, infer_means

_ROWS = 1_024


@torch.no_grad()
def infer_belief(
    network: Network, visible: np.ndarray, *, tolerance: float = 1e-4, most_sweeps: int = 50
) -> np.ndarray:
    """Return the means of all hidden units, layer after layer.

    Parameters
    ----------
    network
        Of L hidden layers.
    visible : shape (n, V)
        Rows of its layout, of any numeric type.
    tolerance, most_sweeps
        Of the mean field.

    Returns
    -------
    np.ndarray
        Shape (n, hidden units of all layers), float32, in [0, 1]; the same for the same rows, in
        whatever company.
    """
    bias = network.biases[0]
    belief = np.empty((len(visible), sum(network.sizes[1:])), dtype=np.float32)
    for start in range(0, len(visible), _ROWS):
        block = torch.from_numpy(np.ascontiguousarray(visible[start : start + _ROWS]))
        means = infer_means(
            network,
            block.to(bias.device, bias.dtype),
            tolerance=tolerance,
            most_sweeps=most_sweeps,
        )
        end = 0
        for mean in means.hidden:
            begin, end = end, end + mean.shape[1]
            belief[start : start + _ROWS, begin:end] = mean.cpu().numpy()
    return belief


def name_belief(network: Network) -> list[str]:
    """Return the columns' names: belief_<layer>_<unit>."""
    return [
        f"belief_{layer}_{unit}"
        for layer, size in enumerate(network.sizes[1:], start=1)
        for unit in range(size)
    ]
