"""What the media marts hold, and what the media mix leaves in the lake."""

import dataframely as dy


class MediaDaily(dy.Schema):
    """Mart: one row per day and channel, bought media and this programme's messages."""

    day = dy.Date(primary_key=True)
    channel = dy.String(primary_key=True)
    is_message = dy.Bool(primary_key=True)
    spend = dy.Float64(nullable=False, min=0)
    impressions = dy.Float64(nullable=True, min=0)


class SalesDaily(dy.Schema):
    """Mart: one row per day, the delivered KPI and the purchases of the programme's customers."""

    day = dy.Date(primary_key=True)
    kpi = dy.Float64(nullable=True)
    programme_sales = dy.Float64(nullable=False, min=0)
    customers = dy.Int64(nullable=False, min=0)


class LiftTests(dy.Schema):
    """One row per message channel: what its messages added, by the randomised log; currency.

    ``lift`` of all its messages between ``first_date`` and ``last_date``, over no offer instead.
    """

    channel = dy.String(primary_key=True)
    first_date = dy.Date(nullable=False)
    last_date = dy.Date(nullable=False)
    n_sent = dy.Int64(nullable=False, min=0)
    n_not = dy.Int64(nullable=False, min=0)
    spend = dy.Float64(nullable=False, min=0)
    lift = dy.Float64(nullable=False)
    standard_error = dy.Float64(nullable=False, min_exclusive=0)


class MediaReturns(dy.Schema):
    """One row per channel, kind of return and fit: KPI currency per currency spent, 90 %.

    ``average`` is of all spend, ``marginal`` of 1 % more in each week.
    """

    channel = dy.String(primary_key=True)
    kind = dy.Enum(["average", "marginal"], primary_key=True)
    fit = dy.Enum(["with_lift_tests", "without"], primary_key=True)
    mean = dy.Float64(nullable=False)
    low = dy.Float64(nullable=False)
    high = dy.Float64(nullable=False)


class MediaContributions(dy.Schema):
    """One row per week and part, a channel or the base: KPI currency a week, 90 %."""

    week = dy.Date(primary_key=True)
    part = dy.String(primary_key=True)
    mean = dy.Float64(nullable=False)
    low = dy.Float64(nullable=False)
    high = dy.Float64(nullable=False)


class ChannelBudgets(dy.Schema):
    """One row per channel: spend a week now, recommended, and 90 % of the best splits; currency.

    ``most_per_decision`` is what a message channel's limit in Decide is, None for bought media.
    """

    channel = dy.String(primary_key=True)
    is_message = dy.Bool(primary_key=True)
    current = dy.Float64(nullable=False, min=0)
    recommended = dy.Float64(nullable=False, min=0)
    low = dy.Float64(nullable=False, min=0)
    high = dy.Float64(nullable=False, min=0)
    marginal_return = dy.Float64(nullable=False)
    most_per_decision = dy.Float64(nullable=True, min=0)
