"""Decide: the media mix's split as limits of what each channel's messages may cost."""

from dataclasses import replace

import polars as pl

from ml.core.programme import Programme
from ml.core.rules import LimitRule


def limit_channels(programme: Programme, budgets: pl.DataFrame) -> Programme:
    """Return the programme with a limit per message channel beside its own.

    Parameters
    ----------
    programme
        As declared.
    budgets
        ChannelBudgets.

    Returns
    -------
    Programme
        The expected cost of a channel's offers is at most what the split gives it, per decision.
    """
    messages = budgets.filter(pl.col("most_per_decision").is_not_null()).sort("channel")
    limits = tuple(
        LimitRule(
            name=f"{channel}, by the media mix",
            measure="cost",
            channels=(channel,),
            most_per_decision=most,
        )
        for channel, most in messages.select("channel", "most_per_decision").iter_rows()
    )
    return replace(programme, limits=(*programme.limits, *limits))
