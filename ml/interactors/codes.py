"""Sparse codes: a few active features of many that write a representation's vectors anew.

A TopK sparse autoencoder (Makhzani and Frey 2014; Gao et al. 2024): z = TopK(W_e (x - b)) and
x^ = W_d z + b, with unit-norm columns of W_d; features that died are kept in training by writing
what is left (AuxK). Trained on customers outside the experiment.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch import Tensor

from ml.core.errors import ContractError, ModelError

_LAYOUT = 1
_ROWS_AT_ONCE = 16_384
_VARIANCE_KEPT = 1e-6


@dataclass(frozen=True, kw_only=True)
class CodeSettings:
    """How codes are learned.

    Attributes
    ----------
    n_features, n_active
        m features, of which k may be active in a row.
    n_revived, revived_weight
        Dead features that write what is left (AuxK), at most half the dimensions, and the weight of
        that loss (1/32).
    dead_after
        Steps without being active after which a feature is dead.
    n_steps, batch_size, learning_rate
        Adam's.
    seed
        Of the start and of the order.
    """

    n_features: int = 256
    n_active: int = 8
    n_revived: int = 8
    revived_weight: float = 1 / 32
    dead_after: int = 100
    n_steps: int = 2_000
    batch_size: int = 512
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class SparseCoder:
    """A trained dictionary of m features over d-dimensional vectors.

    ``mean`` (d,) and ``whitening`` (d, r) make the r-dimensional vectors that ``encoder`` (m, r),
    ``decoder`` (m, r), rows of norm 1, and ``bias`` (r,) are about.
    """

    settings: CodeSettings
    mean: np.ndarray
    whitening: np.ndarray
    encoder: np.ndarray
    decoder: np.ndarray
    bias: np.ndarray

    def encode(self, vectors: np.ndarray) -> sparse.csr_array:
        """Return codes, shape (n, m), at most k in a row, all positive.

        Raises
        ------
        ContractError
            If the vectors have another size.
        """
        if vectors.shape[1] != len(self.mean):
            raise ContractError(
                f"vectors have {vectors.shape[1]} dimensions, the codes know {len(self.mean)}"
            )
        parts = []
        for start in range(0, max(len(vectors), 1), _ROWS_AT_ONCE):
            rows = _whiten(vectors[start : start + _ROWS_AT_ONCE], self.mean, self.whitening)
            active = np.maximum((rows - self.bias) @ self.encoder.T, 0)
            place = np.argpartition(-active, self.settings.n_active - 1, axis=1)
            place = np.sort(place[:, : self.settings.n_active], axis=1)
            value = np.take_along_axis(active, place, axis=1)
            bounds = np.arange(len(rows) + 1) * self.settings.n_active
            shape = (len(rows), len(self.encoder))
            part = sparse.csr_array((value.ravel(), place.ravel(), bounds), shape=shape)
            part.eliminate_zeros()
            parts.append(part)
        return sparse.csr_array(sparse.vstack(parts))

    def measure_loss(self, vectors: np.ndarray) -> float:
        """Return the share of the whitened vectors' variance that the codes leave, 0 to 1."""
        rows = _whiten(vectors, self.mean, self.whitening)
        left = rows - (self.encode(vectors) @ self.decoder + self.bias)
        return float((left**2).sum() / ((rows - rows.mean(axis=0)) ** 2).sum())


def train_coder(vectors: np.ndarray, settings: CodeSettings) -> SparseCoder:
    """Train codes.

    Parameters
    ----------
    vectors : shape (n, d)
        Of customers outside the experiment.
    settings
        Sizes and steps.

    Returns
    -------
    SparseCoder
        The same for the same vectors and settings on one machine.

    Raises
    ------
    ContractError
        If there are fewer vectors than features, or more active features than there are.
    """
    if settings.n_active > settings.n_features:
        raise ContractError(
            f"{settings.n_active} active features of {settings.n_features}: lower n_active"
        )
    if len(vectors) < settings.n_features:
        raise ContractError(
            f"{len(vectors)} vectors can't teach {settings.n_features} features: lower n_features"
        )
    mean = vectors.mean(axis=0)
    values, turned = np.linalg.eigh(np.cov(vectors, rowvar=False).reshape(len(mean), -1))
    kept = values > _VARIANCE_KEPT * max(values[-1], 1e-300)
    whitening = turned[:, kept] / np.sqrt(values[kept])
    rows = torch.from_numpy(_whiten(vectors, mean, whitening).astype(np.float32))
    encoder, decoder, bias = _learn(rows, settings)
    return SparseCoder(settings, mean, whitening, encoder, decoder, bias)


def _whiten(vectors: np.ndarray, mean: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    return np.asarray((vectors - mean) @ whitening)


def _learn(rows: Tensor, settings: CodeSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return encoder, decoder and bias."""
    generator = torch.Generator().manual_seed(settings.seed)
    decoder = torch.randn(settings.n_features, rows.shape[1], generator=generator)
    decoder = torch.nn.functional.normalize(decoder, dim=1).requires_grad_()
    encoder = decoder.detach().clone().requires_grad_()
    bias = torch.zeros(rows.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([encoder, decoder, bias], settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.n_steps)
    idle = torch.zeros(settings.n_features, dtype=torch.long)
    for _ in range(settings.n_steps):
        batch = rows[torch.randint(len(rows), (settings.batch_size,), generator=generator)]
        active = torch.relu((batch - bias) @ encoder.T)
        codes = _keep_largest(active, settings.n_active)
        left = batch - (codes @ decoder + bias)
        loss = (left**2).mean()
        is_dead = idle >= settings.dead_after
        if settings.n_revived and is_dead.any():
            revived = _keep_largest(
                active.masked_fill(~is_dead, 0.0), min(settings.n_revived, int(is_dead.sum()))
            )
            missed = left.detach() - revived @ decoder
            loss = loss + settings.revived_weight * (missed**2).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            decoder /= decoder.norm(dim=1, keepdim=True).clamp_min(1e-12)
            idle = torch.where((codes > 0).any(dim=0), 0, idle + 1)
    learned = [each.detach().numpy().astype(float) for each in (encoder, decoder, bias)]
    return learned[0], learned[1], learned[2]


def _keep_largest(active: Tensor, n_kept: int) -> Tensor:
    """Return rows with all but their largest entries 0."""
    largest = active.topk(n_kept, dim=1)
    return torch.zeros_like(active).scatter(1, largest.indices, largest.values)


def find_recurring(
    coders: Sequence[SparseCoder], *, least_cosine: float = 0.7
) -> list[tuple[int, int]]:
    """Return the features that most trainings found, one for each such finding.

    A feature recurs in a coder of another seed if the cosine of their decoder rows is above
    ``least_cosine`` somewhere: what one start finds alone is an accident. What most found counts
    though any one of them missed it.

    Parameters
    ----------
    coders
        Of several seeds, on the same vectors.
    least_cosine
        Above it two features are one.

    Returns
    -------
    list
        (coder, feature), of those that are one the most like the others'; best shared first.

    Raises
    ------
    ContractError
        With fewer than two coders.
    """
    if len(coders) < 2:
        raise ContractError("features recur over coders of several seeds: train at least two")
    found: list[tuple[float, int, int]] = []
    for place, own in enumerate(coders):
        others = [other for each, other in enumerate(coders) if each != place]
        nearest = np.stack([(own.decoder @ other.decoder.T).max(axis=1) for other in others])
        recurs = 1 + (nearest > least_cosine).sum(axis=0) > len(coders) / 2
        shared = nearest.mean(axis=0)
        found += [(-shared[feature], place, int(feature)) for feature in np.flatnonzero(recurs)]
    taken: list[tuple[int, int]] = []
    rows = np.empty((0, coders[0].decoder.shape[1]))
    for _, place, feature in sorted(found):
        row = coders[place].decoder[feature]
        if not len(rows) or (rows @ row).max() <= least_cosine:
            taken.append((place, feature))
            rows = np.vstack([rows, row])
    return taken


def group_duplicates(codes: sparse.csr_array, *, least_correlation: float = 0.9) -> np.ndarray:
    """Return each feature's group, shape (m,), int: features that are nearly one share a number.

    Groups are connected by correlations above ``least_correlation``, absolute, over the rows.
    """
    n = codes.shape[0]
    mean = np.asarray(codes.mean(axis=0)).ravel()
    covariance = (codes.T @ codes).toarray() / n - np.outer(mean, mean)
    spread = np.sqrt(np.maximum(np.diag(covariance), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.nan_to_num(covariance / np.outer(spread, spread))
    is_near = sparse.csr_array(np.abs(correlation) > least_correlation)
    return np.asarray(sparse.csgraph.connected_components(is_near, directed=False)[1])


def save_coder(coder: SparseCoder, folder: Path) -> None:
    """Write a coder: ``coder.safetensors`` and ``coder.json``, no pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("mean", "whitening", "encoder", "decoder", "bias")
    tensors = {name: torch.from_numpy(np.ascontiguousarray(getattr(coder, name))) for name in names}
    save_file(tensors, folder / "coder.safetensors")
    described = {"layout": _LAYOUT, "settings": asdict(coder.settings)}
    (folder / "coder.json").write_text(json.dumps(described, indent=2))


def load_coder(folder: Path) -> SparseCoder:
    """Read a coder.

    Raises
    ------
    ModelError
        If the files are of another layout.
    """
    described = json.loads((folder / "coder.json").read_text())
    if described["layout"] != _LAYOUT:
        raise ModelError(f"{folder}: layout {described['layout']}, not {_LAYOUT}: train it anew")
    tensors = {name: each.numpy() for name, each in load_file(folder / "coder.safetensors").items()}
    return SparseCoder(CodeSettings(**described["settings"]), **tensors)
