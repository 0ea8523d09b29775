"""The action set: what may be offered, in one fixed order, no-offer first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ml.core.errors import ContractError


@dataclass(frozen=True)
class ActionSet:
    """K actions in a fixed order; index 0 is control (no-offer).

    ``face_values`` and ``message_costs`` have shape (K,), in currency per redemption and per
    message; control has 0 in both.
    """

    action_ids: tuple[str, ...]
    families: tuple[str, ...]
    channels: tuple[str, ...]
    face_values: np.ndarray
    message_costs: np.ndarray

    @property
    def n_actions(self) -> int:
        """K, control included."""
        return len(self.action_ids)

    def index_of(self, actions: pl.Series) -> np.ndarray:
        """Return each action's index.

        Parameters
        ----------
        actions : shape (n,), action ids
            Names as in the catalogue.

        Returns
        -------
        np.ndarray
            Shape (n,), int64.

        Raises
        ------
        ContractError
            If an id is not in the set.
        """
        unknown = set(actions.unique().to_list()) - set(self.action_ids)
        if unknown:
            raise ContractError(f"unknown actions {sorted(map(str, unknown))}: add them to actions")
        index = {action: position for position, action in enumerate(self.action_ids)}
        return actions.replace_strict(index, return_dtype=pl.Int64).to_numpy()

    def select(
        self, *, actions: Sequence[str], channels: Sequence[str], families: Sequence[str]
    ) -> np.ndarray:
        """Return which offers a rule is about, shape (K,), bool; control never.

        Parameters
        ----------
        actions, channels, families
            Names; empty means all.

        Returns
        -------
        np.ndarray
            Offers that each of the three lets in.
        """
        chosen = np.arange(self.n_actions) > 0
        for names, wanted in (
            (self.action_ids, actions),
            (self.channels, channels),
            (self.families, families),
        ):
            if wanted:
                chosen &= np.isin(names, wanted)
        return chosen

    def with_channels_of(self, catalogue: "ActionSet") -> "ActionSet":
        """Return this set with the channels that another one now gives its actions."""
        now = dict(zip(catalogue.action_ids, catalogue.channels, strict=True))
        channels = tuple(
            now.get(action, channel)
            for action, channel in zip(self.action_ids, self.channels, strict=True)
        )
        return replace(self, channels=channels)

    def spread_lists(self, actions: pl.Series, values: pl.Series | None = None) -> np.ndarray:
        """Return the (n, K) matrix that per-row lists of actions (and values) stand for.

        Parameters
        ----------
        actions : shape (n,), lists of action ids
            Names as in the catalogue.
        values : shape (n,), lists of floats in the same order, optional
            Without it every listed action gets 1.

        Returns
        -------
        np.ndarray
            Shape (n, K), float64; 0 where an action is not listed.
        """
        matrix = np.zeros((len(actions), self.n_actions))
        lengths = actions.list.len().fill_null(0).to_numpy()
        rows = np.repeat(np.arange(len(actions)), lengths)
        columns = self.index_of(actions.explode(empty_as_null=False).drop_nulls())
        filled = 1.0 if values is None else values.explode(empty_as_null=False).to_numpy()
        matrix[rows, columns] = filled
        return matrix

    def eligible_by_channel(self, channels: pl.Series) -> np.ndarray:
        """Return which actions reach each customer; control always does.

        Parameters
        ----------
        channels : shape (n,), comma-separated channel names
            The channels a customer may be contacted on.

        Returns
        -------
        np.ndarray
            Shape (n, K), bool.
        """
        allowed = channels.fill_null("").str.split(",")
        columns = [
            np.ones(len(channels), dtype=bool)
            if position == 0
            else allowed.list.contains(channel).to_numpy()
            for position, channel in enumerate(self.channels)
        ]
        return np.column_stack(columns)


def read_actions(catalogue: pl.DataFrame, *, surface: str = "") -> ActionSet:
    """Build the action set from the action catalogue, control first, then by id.

    Parameters
    ----------
    catalogue
        Columns action_id, family, channel, face_value, message_cost, is_control; with a column
        surface, actions of other surfaces are left out.
    surface
        The programme's own; empty: every surface is.

    Returns
    -------
    ActionSet
        At least two actions.

    Raises
    ------
    ContractError
        If there isn't exactly one control action, or nothing to offer.
    """
    if surface and "surface" in catalogue.columns:
        catalogue = catalogue.filter(pl.col("surface").fill_null(surface) == surface)
    ordered = catalogue.sort(pl.col("is_control").not_(), "action_id")
    n_controls = int(ordered["is_control"].sum())
    if n_controls != 1 or ordered.height < 2:
        raise ContractError(
            f"the action catalogue needs exactly one control action and at least one offer; "
            f"it has {n_controls} control actions among {ordered.height}"
        )
    return ActionSet(
        action_ids=tuple(ordered["action_id"]),
        families=tuple(ordered["family"]),
        channels=tuple(ordered["channel"].fill_null("")),
        face_values=ordered["face_value"].to_numpy().astype(float),
        message_costs=ordered["message_cost"].to_numpy().astype(float),
    )
