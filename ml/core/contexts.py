"""From the customer_features mart to what models and policies see."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.errors import ContractError
from ml.core.programme import Attribute, Programme
from ml.core.rules import LIFECYCLES

BEHAVIOUR_FEATURES = (
    "tenure_days",
    "days_since_visit",
    "days_since_purchase",
    "visits_7d",
    "visits_28d",
    "visits_90d",
    "purchases_7d",
    "purchases_28d",
    "purchases_90d",
    "spend_7d",
    "spend_28d",
    "spend_90d",
    "redemptions_28d",
    "offers_28d",
    "other_offers_7d",
)


BELIEF, PLAUSIBILITY = "belief_v", "plausibility_v"
"""Columns of rows that carry beliefs, each followed by the world model's version."""
HISTORY = "history"
"""Column of rows that carry the tokens known before the decision, a list of 'kind:item' each."""
BELIEF_UNIT = "belief:"
"""What a belief's features are called, each followed by its unit's number."""


@dataclass(frozen=True)
class Belief:
    """What one version of the world model makes of n customers.

    ``means`` (n, B) of hidden units, and ``plausibility`` (n,): the share of customer-days of the
    same lifecycle that are at least as odd. NaN where a customer has none.
    """

    means: np.ndarray
    plausibility: np.ndarray


@dataclass(frozen=True)
class Contexts:
    """n customers at their decision time.

    Attributes
    ----------
    frame : n rows of the customer_features mart
    context : shape (n, d), float; NaN where unknown
    eligible : shape (n, K), bool; column 0 (control) is always true
    feature_names : d names
    schema_hash
        Identifies names, order and encoding; a model refuses another hash.
    beliefs
        By version of the world model; empty where there is none.
    """

    frame: pl.DataFrame
    context: np.ndarray
    eligible: np.ndarray
    feature_names: tuple[str, ...]
    schema_hash: str
    beliefs: Mapping[str, Belief] = field(default_factory=dict)

    @property
    def n_customers(self) -> int:
        """Number of rows, n."""
        return self.frame.height

    @property
    def lifecycle_index(self) -> np.ndarray:
        """Each customer's place in ``LIFECYCLES``, shape (n,), int."""
        return (
            self.frame["lifecycle"]
            .cast(pl.String)
            .replace_strict(list(LIFECYCLES), range(len(LIFECYCLES)), return_dtype=pl.Int64)
            .to_numpy()
        )

    def find_odd(self, version: str | None, *, least: float) -> np.ndarray:
        """Return whose day is less plausible to a world model than ``least``, shape (n,), bool.

        Nobody's without a version, and nobody's who has no belief.
        """
        if version is None or version not in self.beliefs:
            return np.zeros(self.n_customers, dtype=bool)
        return np.asarray(self.beliefs[version].plausibility < least)

    def take(self, rows: np.ndarray) -> "Contexts":
        """Return the contexts of the given rows (bool mask or indices, shape (m,))."""
        indices = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self,
            frame=self.frame[indices],
            context=self.context[indices],
            eligible=self.eligible[indices],
            beliefs={
                version: Belief(each.means[indices], each.plausibility[indices])
                for version, each in self.beliefs.items()
            },
        )

    def see_belief(self, version: str | None, *, size: int | None = None) -> "Contexts":
        """Return the contexts with a belief's columns after the features, in schema hash too.

        Parameters
        ----------
        version
            Of the world model; None returns the contexts as they are.
        size
            Units of its belief: no rows, or rows without any belief, say nothing of it.

        Returns
        -------
        Contexts
            For whoever was fitted on that version's beliefs.

        Raises
        ------
        ContractError
            If the rows carry no belief of that version.
        """
        if version is None:
            return self
        if version not in self.beliefs and self.n_customers:
            held = ", ".join(sorted(self.beliefs)) or "none"
            raise ContractError(
                f"the rows carry no beliefs of world model version {version} (but {held}): the "
                "asset beliefs says why; put torch or the version's files back, or roll back to a "
                "policy that needs none (make rollback VERSION=)"
            )
        means = self.beliefs[version].means if version in self.beliefs else np.empty((0, 0))
        if size is not None and not means.shape[1]:
            means = np.full((self.n_customers, size), np.nan)
        names = tuple(f"{BELIEF_UNIT}{unit}" for unit in range(means.shape[1]))
        text = f"{self.schema_hash} world_model={version} {len(names)}"
        return replace(
            self,
            context=np.column_stack([self.context, means]),
            feature_names=(*self.feature_names, *names),
            schema_hash=hashlib.sha256(text.encode()).hexdigest()[:16],
        )


def build_contexts(features: pl.DataFrame, *, programme: Programme, actions: ActionSet) -> Contexts:
    """Encode rows of customer_features.

    Behaviour columns and declared attributes become float columns, categories one indicator per
    declared level; protected attributes are left out. Eligibility follows the channels on which
    the customer may be contacted.

    Parameters
    ----------
    features
        Rows of the customer_features mart, joined with beliefs or not.
    programme
        Declares the attributes.
    actions
        The action set.

    Returns
    -------
    Contexts
        In the order of ``features``.

    Raises
    ------
    ContractError
        If a column is missing.
    """
    missing = sorted({*BEHAVIOUR_FEATURES, "attributes"} - set(features.columns))
    if missing:
        raise ContractError(f"customer_features lacks the columns {missing}: rebuild the marts")
    usable = tuple(each for each in programme.attributes if not each.is_protected)
    encoded = features.select(
        *(pl.col(name).cast(pl.Float64) for name in BEHAVIOUR_FEATURES),
        *_encode_attributes(usable),
    )
    return Contexts(
        frame=features,
        context=encoded.fill_null(float("nan")).to_numpy(),
        eligible=actions.eligible_by_channel(features["contactable_channels"]),
        feature_names=tuple(encoded.columns),
        schema_hash=hash_feature_schema(programme),
        beliefs={
            name.removeprefix(BELIEF): _read_belief(features, name.removeprefix(BELIEF))
            for name in features.columns
            if name.startswith(BELIEF)
        },
    )


def _read_belief(features: pl.DataFrame, version: str) -> Belief:
    """Return one version's belief of every row; NaN where it is null."""
    column = features[BELIEF + version]
    size = int(column.list.len().fill_null(0).to_numpy().max(initial=0))
    means = np.full((features.height, size), np.nan, dtype=np.float32)
    is_known = column.is_not_null().to_numpy()
    if is_known.any():
        means[is_known] = column.drop_nulls().list.to_array(size).to_numpy()
    plausibility = features[PLAUSIBILITY + version].fill_null(float("nan")).to_numpy()
    return Belief(means, plausibility)


def join_beliefs(features: pl.DataFrame, beliefs: pl.DataFrame) -> pl.DataFrame:
    """Join beliefs to rows by customer and decision date: two columns per version.

    Parameters
    ----------
    features
        Rows of customer_features, or joined with more.
    beliefs
        Rows of ``Beliefs``, of one version or several.

    Returns
    -------
    pl.DataFrame
        As many rows; null where a row has no belief.
    """
    keys = ["customer_id", "decision_date"]
    for (version,), own in beliefs.group_by("version", maintain_order=True):
        columns = own.select(
            *keys,
            pl.col("belief").alias(f"{BELIEF}{version}"),
            pl.col("plausibility").alias(f"{PLAUSIBILITY}{version}"),
        )
        features = features.join(columns, on=keys, how="left", maintain_order="left")
    return features


def hash_feature_schema(programme: Programme) -> str:
    """Return the hash of names, order and encoding of the features.

    Parameters
    ----------
    programme
        Declares the attributes.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    usable = [
        [each.name, each.kind, *each.levels]
        for each in programme.attributes
        if not each.is_protected
    ]
    text = json.dumps([BEHAVIOUR_FEATURES, usable])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encode_attributes(attributes: tuple[Attribute, ...]) -> list[pl.Expr]:
    """Return one expression per encoded attribute column."""
    expressions = []
    for each in attributes:
        value = pl.col("attributes").str.json_path_match(f"$['{each.name}']")
        if each.kind == "number":
            expressions.append(value.cast(pl.Float64, strict=False).alias(each.name))
        else:
            expressions += [
                (value == level).cast(pl.Float64).alias(f"{each.name}={level}")
                for level in each.levels
            ]
    return expressions
