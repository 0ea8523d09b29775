"""The input contract: one schema per delivered table, and what each broken rule means.

docs/input-contract.md explains it to the people who deliver.
"""

import dataframely as dy
import polars as pl

PROPENSITY_TOLERANCE = 1e-6


class Delivered(dy.Schema):
    """Where a row came from; kept in the lake so that every row can be traced and erased."""

    source_file = dy.String(nullable=False)
    row_number = dy.Int64(nullable=False)


class Customers(Delivered):
    """One row per customer and valid_from; ``attributes`` is a JSON object."""

    customer_id = dy.String(primary_key=True, min_length=1)
    valid_from = dy.Datetime(primary_key=True, time_zone="UTC", time_unit="us")
    signed_up_at = dy.Datetime(nullable=False, time_zone="UTC", time_unit="us")
    attributes = dy.String(nullable=False)
    available_at = dy.Datetime(nullable=False, time_zone="UTC", time_unit="us")

    @dy.rule()
    def attributes_json(cls) -> pl.Expr:
        """Require a JSON object."""
        attributes = pl.col("attributes")
        return attributes.str.json_path_match("$").str.starts_with("{").fill_null(value=False)


class Actions(Delivered):
    """One row per action; control is the row with is_control."""

    action_id = dy.String(primary_key=True, min_length=1)
    family = dy.String(nullable=False)
    channel = dy.String(nullable=True)
    face_value = dy.Float64(nullable=False, min=0)
    message_cost = dy.Float64(nullable=False, min=0)
    is_control = dy.Bool(nullable=False)
    surface = dy.String(nullable=True)

    @dy.rule()
    def offer_has_channel(cls) -> pl.Expr:
        """Require a channel of every offer: contactability is per channel."""
        return pl.col("is_control") | (pl.col("channel").fill_null("").str.len_chars() > 0)

    @dy.rule()
    def channel_without_comma(cls) -> pl.Expr:
        """Channels are listed with commas between them."""
        return ~pl.col("channel").fill_null("").str.contains(",", literal=True)

    @dy.rule()
    def control_is_free(cls) -> pl.Expr:
        """Require that no-offer costs nothing."""
        return ~pl.col("is_control") | (pl.col("face_value") + pl.col("message_cost") == 0)


class Assignments(Delivered):
    """One row per logged decision."""

    decision_id = dy.String(primary_key=True, min_length=1)
    customer_id = dy.String(nullable=False)
    decided_at = dy.Datetime(nullable=False, time_zone="UTC", time_unit="us")
    surface = dy.String(nullable=False)
    eligible_actions = dy.List(dy.String(nullable=False), nullable=False, min_length=1)
    action_id = dy.String(nullable=False)
    propensity = dy.Float64(nullable=False, min_exclusive=0, max=1)
    eligible_propensities = dy.List(dy.Float64(nullable=False), nullable=True)
    policy_version = dy.String(nullable=False)
    arm = dy.String(nullable=False)
    experiment = dy.String(nullable=True)
    is_exploration = dy.Bool(nullable=False)

    @dy.rule()
    def assigned_eligible(cls) -> pl.Expr:
        """Require the assigned action among the eligible ones."""
        return pl.col("eligible_actions").list.contains(pl.col("action_id"))

    @dy.rule()
    def vector_length(cls) -> pl.Expr:
        """Require one propensity per eligible action."""
        vector = pl.col("eligible_propensities")
        return vector.is_null() | (vector.list.len() == pl.col("eligible_actions").list.len())

    @dy.rule()
    def vector_sum(cls) -> pl.Expr:
        """Require a distribution: no negative entry, sum 1."""
        vector = pl.col("eligible_propensities")
        sums = (vector.list.sum() - 1).abs() <= PROPENSITY_TOLERANCE
        return vector.is_null() | (sums & (vector.list.min() >= 0))

    @dy.rule()
    def vector_agrees(cls) -> pl.Expr:
        """Require the assigned action's entry of the vector to be the propensity."""
        vector = pl.col("eligible_propensities")
        is_assigned = pl.element() == pl.element().first()
        position = (
            pl.concat_list("action_id", "eligible_actions")
            .list.eval(is_assigned.cast(pl.Int8))
            .list.slice(1)
            .list.arg_max()
        )
        logged = vector.list.get(position, null_on_oob=True)
        agrees = (logged - pl.col("propensity")).abs() <= PROPENSITY_TOLERANCE
        return vector.is_null() | agrees.fill_null(False)


class ObservedAssignments(Assignments):
    """Decisions of a log that may lack its propensities."""

    propensity = dy.Float64(nullable=True, min_exclusive=0, max=1)


class Deliveries(Delivered):
    """One row per decision: what really went out."""

    decision_id = dy.String(primary_key=True, min_length=1)
    status = dy.String(nullable=False)
    realised_action_id = dy.String(nullable=False)
    delivered_at = dy.Datetime(nullable=False, time_zone="UTC", time_unit="us")

    @dy.rule()
    def known_status(cls) -> pl.Expr:
        """Only the documented statuses."""
        return pl.col("status").is_in(["delivered", "failed", "suppressed"])


class Events(Delivered):
    """One row per customer event."""

    customer_id = dy.String(nullable=False)
    occurred_at = dy.Datetime(nullable=False, time_zone="UTC", time_unit="us")
    available_at = dy.Datetime(nullable=False, time_zone="UTC", time_unit="us")
    type = dy.String(nullable=False, min_length=1)
    amount = dy.Float64(nullable=True, min=0)
    decision_id = dy.String(nullable=True)
    item = dy.String(nullable=True)

    @dy.rule()
    def amount_given(cls) -> pl.Expr:
        """Purchases and redemptions carry money."""
        return pl.col("amount").is_not_null() | ~pl.col("type").is_in(["purchase", "redemption"])

    @dy.rule()
    def clocks_in_order(cls) -> pl.Expr:
        """Nothing is available before it occurred."""
        return pl.col("available_at") >= pl.col("occurred_at")


class Contactability(Delivered):
    """One row per customer, channel and valid_from: whether we may write to them there."""

    customer_id = dy.String(primary_key=True, min_length=1)
    channel = dy.String(primary_key=True, min_length=1)
    valid_from = dy.Datetime(primary_key=True, time_zone="UTC", time_unit="us")
    is_allowed = dy.Bool(nullable=False)

    @dy.rule()
    def channel_without_comma(cls) -> pl.Expr:
        """One row is about one channel."""
        return ~pl.col("channel").str.contains(",", literal=True)


class MediaSpend(Delivered):
    """One row per day and channel."""

    day = dy.Date(primary_key=True)
    channel = dy.String(primary_key=True, min_length=1)
    spend = dy.Float64(nullable=False, min=0)
    impressions = dy.Float64(nullable=True, min=0)


class MediaKpi(Delivered):
    """One row per day."""

    day = dy.Date(primary_key=True)
    kpi = dy.Float64(nullable=False)


CONTRACT: dict[str, type[Delivered]] = {
    "customers": Customers,
    "actions": Actions,
    "assignments": Assignments,
    "deliveries": Deliveries,
    "events": Events,
    "contactability": Contactability,
    "media_spend": MediaSpend,
    "media_kpi": MediaKpi,
}


def choose_contract(*, fits_propensities: bool) -> dict[str, type[Delivered]]:
    """Return the tables' schemas.

    Parameters
    ----------
    fits_propensities
        Whether a decision may come without its propensity.

    Returns
    -------
    dict
        Table name to schema.
    """
    return {**CONTRACT, "assignments": ObservedAssignments} if fits_propensities else CONTRACT


CLOCKS: dict[str, tuple[str, ...]] = {
    "customers": ("signed_up_at", "available_at"),
    "assignments": ("decided_at",),
    "deliveries": ("delivered_at",),
    "events": ("occurred_at", "available_at"),
    "media_spend": ("day",),
    "media_kpi": ("day",),
}
"""What had happened when it was delivered; a valid_from may lie ahead."""

_RULES = {
    "primary_key": "the key is not unique in this delivery; deliver each row once",
    "attributes_json": 'attributes: is no JSON object; deliver one such as {"age": 41}',
    "offer_has_channel": "channel: is empty; an offer needs the channel it goes out on",
    "channel_without_comma": "channel: holds a comma; deliver one row per channel",
    "control_is_free": "face_value, message_cost: no-offer costs nothing; deliver 0",
    "assigned_eligible": "action_id: is not among eligible_actions; log the set decided from",
    "vector_length": "eligible_propensities: has another length than eligible_actions; deliver one "
    "propensity per eligible action",
    "vector_sum": "eligible_propensities: is no distribution; deliver non-negative entries that "
    "sum to 1",
    "vector_agrees": "propensity: is not action_id's entry of eligible_propensities; log the one "
    "that was used",
    "known_status": "status: is unknown; deliver delivered, failed or suppressed",
    "amount_given": "amount: is empty; a purchase or redemption needs one",
    "clocks_in_order": "available_at: lies before occurred_at; check both clocks",
}
_LIMITS = {
    "nullability": "is empty; deliver a value",
    "inner_nullability": "has an empty entry; deliver every entry",
    "min": "lies below the smallest allowed value; check sign and unit",
    "min_exclusive": "is not above 0; a decision that could not happen has no propensity",
    "max": "lies above the largest allowed value (1 for a propensity); check the unit",
    "nan": "is not a number (NaN); deliver a value or leave it empty",
    "inf": "is infinite; deliver a finite number",
    "min_length": "is too short; deliver at least one character or entry",
}


def describe_rule(rule: str) -> str:
    """Return what a broken rule means and how to mend it.

    Parameters
    ----------
    rule
        The rule's name as dataframely reports it, 'column|limit' or a named rule.

    Returns
    -------
    str
        '<column>: <what is wrong>; <remedy>'.
    """
    column, _, limit = rule.partition("|")
    if limit:
        return f"{column}: {_LIMITS.get(limit, f'breaks the rule {limit}')}"
    return _RULES.get(rule, rule)
