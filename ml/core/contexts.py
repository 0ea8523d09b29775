"""From the customer_features mart to what models and policies see."""

import hashlib
import json
from dataclasses import dataclass

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
    """

    frame: pl.DataFrame
    context: np.ndarray
    eligible: np.ndarray
    feature_names: tuple[str, ...]
    schema_hash: str

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

    def take(self, rows: np.ndarray) -> "Contexts":
        """Return the contexts of the given rows (bool mask or indices, shape (m,))."""
        indices = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Contexts(
            frame=self.frame[indices],
            context=self.context[indices],
            eligible=self.eligible[indices],
            feature_names=self.feature_names,
            schema_hash=self.schema_hash,
        )


def build_contexts(features: pl.DataFrame, *, programme: Programme, actions: ActionSet) -> Contexts:
    """Encode rows of customer_features.

    Behaviour columns and declared attributes become float columns, categories one indicator per
    declared level; protected attributes are left out. Eligibility follows the channels on which
    the customer may be contacted.

    Parameters
    ----------
    features
        Rows of the customer_features mart.
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
    )


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
