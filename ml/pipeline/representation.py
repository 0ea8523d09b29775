"""Learn: what represents customers at their decisions: encoded histories, or beliefs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ml.core.contexts import HISTORY, Contexts
from ml.core.errors import ContractError
from ml.interactors.codes import load_coder, save_coder
from ml.interactors.encoders import Encoder, load_encoder, save_encoder
from ml.interactors.histories import read_lists
from ml.pipeline.candidates import AttributeReader, Codes, join_candidates

BELIEF_ENCODER = "belief"
_ROWS = 50_000


@dataclass(frozen=True)
class HistoryRepresentation:
    """Vectors of the histories that contexts carry, through an encoder over a vocabulary."""

    encoder: Encoder
    vocabulary: tuple[str, ...]

    @property
    def name(self) -> str:
        """In reports."""
        return self.encoder.name

    def encode(self, contexts: Contexts) -> np.ndarray:
        """Return vectors, shape (n, d).

        Raises
        ------
        ContractError
            If the contexts carry no histories.
        """
        if HISTORY not in contexts.frame.columns:
            raise ContractError(
                "the rows carry no histories, which this policy asks of: rows of customer_features "
                f"need the column '{HISTORY}' (docs/methods.md, What drives effects)"
            )
        return self.encoder.encode(read_lists(contexts.frame[HISTORY], self.vocabulary))


@dataclass(frozen=True)
class BeliefRepresentation:
    """Beliefs of a version of the world model; ``mean``, shape (d,), where a customer has none."""

    version: str
    mean: np.ndarray

    @property
    def name(self) -> str:
        """In reports."""
        return BELIEF_ENCODER

    def encode(self, contexts: Contexts) -> np.ndarray:
        """Return vectors, shape (n, d)."""
        seen = contexts.see_belief(self.version, size=len(self.mean))
        means = seen.context[:, contexts.context.shape[1] :]
        return np.where(np.isnan(means), self.mean, means)


Representation: TypeAlias = HistoryRepresentation | BeliefRepresentation


@dataclass(frozen=True)
class InteractorReader:
    """What reads interactors off contexts: attributes, and codes of a representation if any."""

    attributes: AttributeReader
    representation: Representation | None = None
    codes: Codes | None = None

    @property
    def needs_histories(self) -> bool:
        """Whether contexts must carry histories."""
        return isinstance(self.representation, HistoryRepresentation)

    @property
    def belief_version(self) -> str | None:
        """World model whose beliefs contexts must carry, None if none."""
        own = self.representation
        return own.version if isinstance(own, BeliefRepresentation) else None

    def narrow(self, names: Sequence[str]) -> "InteractorReader":
        """Return what reads the named interactors, and nothing that they don't need."""
        attributes = self.attributes.take(names)
        if self.codes is None or not set(names) & set(self.codes.names):
            return InteractorReader(attributes)
        codes = self.codes.take([name for name in self.codes.names if name in names])
        return replace(self, attributes=attributes, codes=codes)

    def read(self, contexts: Contexts, names: Sequence[str]) -> np.ndarray:
        """Return the named interactors, shape (n, s)."""
        found = [np.empty((0, len(names)))]
        for start in range(0, contexts.n_customers, _ROWS):
            every = np.arange(start, min(start + _ROWS, contexts.n_customers))
            part = contexts.take(every)
            seen = self.attributes.read(part)
            if self.codes is not None and self.representation is not None:
                seen = join_candidates(seen, self.codes.write(self.representation.encode(part)))
            places = [seen.names.index(name) for name in names]
            found.append(seen.matrix[:, places].toarray())
        return np.concatenate(found)


def save_reader(reader: InteractorReader, folder: Path) -> None:
    """Write a reader: JSON and safetensors, no pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    attributes, codes, own = reader.attributes, reader.codes, reader.representation
    described: dict[str, object] = {
        "attributes": {
            "names": attributes.names,
            "is_log": attributes.is_log.tolist(),
            "fill": attributes.fill.tolist(),
        }
    }
    if isinstance(own, HistoryRepresentation):
        save_encoder(own.encoder, folder / "encoder")
        described["vocabulary"] = own.vocabulary
    elif own is not None:
        described["belief"] = {"version": own.version, "mean": own.mean.tolist()}
    if codes is not None:
        for place, coder in enumerate(codes.coders):
            save_coder(coder, folder / f"codes-{place}")
        described["codes"] = {
            "n_coders": len(codes.coders),
            "kept": codes.kept.tolist(),
            "names": codes.names,
            "members": codes.members,
            "share_recurring": codes.share_recurring,
            "loss": codes.loss,
        }
    (folder / "reader.json").write_text(json.dumps(described, indent=2))


def load_reader(folder: Path) -> InteractorReader:
    """Read what ``save_reader`` wrote."""
    described = json.loads((folder / "reader.json").read_text())
    read = described["attributes"]
    attributes = AttributeReader(
        tuple(read["names"]), np.array(read["is_log"], dtype=bool), np.array(read["fill"])
    )
    representation: Representation | None = None
    if "vocabulary" in described:
        representation = HistoryRepresentation(
            load_encoder(folder / "encoder"), tuple(described["vocabulary"])
        )
    elif "belief" in described:
        belief = described["belief"]
        representation = BeliefRepresentation(belief["version"], np.array(belief["mean"]))
    codes = None
    if "codes" in described:
        own = described["codes"]
        codes = Codes(
            tuple(load_coder(folder / f"codes-{place}") for place in range(own["n_coders"])),
            np.array(own["kept"], dtype=np.int64),
            tuple(own["names"]),
            tuple(tuple(each) for each in own["members"]),
            own["share_recurring"],
            own["loss"],
        )
    return InteractorReader(attributes, representation, codes)
