"""What the marts hold and what the loop emits: one schema per lake table.

dbt's YAML states the same columns and types for the marts; a test compares the two.
"""

import dataframely as dy
import polars as pl

PRUNING_REASONS = [
    # Never given, not even by exploration.
    "not_offered",
    "not_contactable",
    "not_eligible",
    "frequency_cap",
    "quiet_hours",
    # Left to exploration.
    "implausible",
    "thin_support",
    "value_not_positive",
    "too_dear",
    "does_not_pay",
    "log_supports_fewer",
    "not_in_rule",
]
LIFECYCLE_NAMES = ["activation", "habituation", "resurrection"]


class Quarantine(dy.Schema):
    """One row per refused row, or per unreadable file (then row_number is empty)."""

    table = dy.String(nullable=False)
    source_file = dy.String(nullable=False)
    row_number = dy.Int64(nullable=True)
    row = dy.String(nullable=True)
    reasons = dy.List(dy.String(nullable=False), nullable=False, min_length=1)


class IngestionCounts(dy.Schema):
    """One row per contract table and night; delivered = accepted + quarantined."""

    table = dy.String(primary_key=True)
    delivered = dy.Int64(nullable=False, min=0)
    accepted = dy.Int64(nullable=False, min=0)
    quarantined = dy.Int64(nullable=False, min=0)

    @dy.rule()
    def adds_up(cls) -> pl.Expr:
        """Nothing is lost."""
        return pl.col("delivered") == pl.col("accepted") + pl.col("quarantined")


class DeliveredFiles(dy.Schema):
    """One row per landed file of a night, as it was when it was screened.

    ``fingerprint`` identifies its rows in any order and format; ``size`` in bytes, ``modified_ns``
    since 1970: what differs from them now was delivered anew.
    """

    table = dy.String(primary_key=True)
    source_file = dy.String(primary_key=True)
    delivered_date = dy.Date(nullable=False)
    delivered = dy.Int64(nullable=False, min=0)
    accepted = dy.Int64(nullable=False, min=0)
    fingerprint = dy.String(nullable=False)
    size = dy.Int64(nullable=False, min=0)
    modified_ns = dy.Int64(nullable=False)


class NightDone(dy.Schema):
    """One row: a step is done for a night, on all files ingested up to it.

    ``chain`` identifies those files' rows and which were accepted, night after night; where it is
    another than the files', the step is to be done again.
    """

    decision_date = dy.Date(primary_key=True)
    chain = dy.String(nullable=False)


class CustomerFeatures(dy.Schema):
    """Mart: one row per customer and decision date, as of before that date."""

    customer_id = dy.String(primary_key=True)
    decision_date = dy.Date(primary_key=True)
    built_for_date = dy.Date(nullable=False)
    is_due = dy.Bool(nullable=False)
    is_holdout = dy.Bool(nullable=False)
    is_evaluation = dy.Bool(nullable=False)
    lifecycle = dy.String(nullable=False)
    contactable_channels = dy.String(nullable=False)
    attributes = dy.String(nullable=False)
    tenure_days = dy.Int64(nullable=False, min=0)
    days_since_visit = dy.Int64(nullable=True, min=0)
    days_since_purchase = dy.Int64(nullable=True, min=0)
    visits_7d = dy.Int64(nullable=False, min=0)
    visits_28d = dy.Int64(nullable=False, min=0)
    visits_90d = dy.Int64(nullable=False, min=0)
    purchases_7d = dy.Int64(nullable=False, min=0)
    purchases_28d = dy.Int64(nullable=False, min=0)
    purchases_90d = dy.Int64(nullable=False, min=0)
    spend_7d = dy.Float64(nullable=False, min=0)
    spend_28d = dy.Float64(nullable=False, min=0)
    spend_90d = dy.Float64(nullable=False, min=0)
    redemptions_28d = dy.Int64(nullable=False, min=0)
    offers_28d = dy.Int64(nullable=False, min=0)
    other_offers_7d = dy.Int64(nullable=False, min=0)

    @dy.rule()
    def known_lifecycle(cls) -> pl.Expr:
        """One of the three documented lifecycles."""
        return pl.col("lifecycle").is_in(LIFECYCLE_NAMES)


class CustomerDays(dy.Schema):
    """Mart: one row per customer and decision date as the world model sees it.

    ``*_days`` are bits, the lowest the day before the decision date: on which days it happened.
    """

    customer_id = dy.String(primary_key=True)
    decision_date = dy.Date(primary_key=True)
    built_for_date = dy.Date(nullable=False)
    is_holdout = dy.Bool(nullable=False)
    is_evaluation = dy.Bool(nullable=False)
    lifecycle = dy.String(nullable=False)
    attributes = dy.String(nullable=False)
    tenure_days = dy.Int64(nullable=False, min=0)
    days_since_visit = dy.Int64(nullable=True, min=0)
    days_since_purchase = dy.Int64(nullable=True, min=0)
    visits_90d = dy.Int64(nullable=False, min=0)
    purchases_90d = dy.Int64(nullable=False, min=0)
    spend_90d = dy.Float64(nullable=False, min=0)
    visit_days = dy.Int64(nullable=False, min=0)
    purchase_days = dy.Int64(nullable=False, min=0)
    redemption_days = dy.Int64(nullable=False, min=0)
    offer_days = dy.Int64(nullable=False, min=0)


class Beliefs(dy.Schema):
    """What a version of the world model believes of customers on a date, before it.

    ``belief`` holds the means of its hidden units, in [0, 1]; ``plausibility`` the share of
    customer-days of the same lifecycle that are at least as odd.
    """

    customer_id = dy.String(primary_key=True)
    decision_date = dy.Date(primary_key=True)
    version = dy.String(primary_key=True)
    belief = dy.List(dy.Float32(nullable=False), nullable=False)
    plausibility = dy.Float64(nullable=False, min=0, max=1)


class CustomerTokens(dy.Schema):
    """Mart: what events were about, by customer and the night that delivered it."""

    customer_id = dy.String(primary_key=True)
    decision_date = dy.Date(primary_key=True)
    built_for_date = dy.Date(nullable=False)
    kind = dy.String(primary_key=True, min_length=1)
    item = dy.String(primary_key=True, min_length=1)
    available_at = dy.Datetime(primary_key=True)
    n_events = dy.Int64(nullable=False, min=1)


class Interactors(dy.Schema):
    """What offers' effects were found to depend on: one row per interactor and outcome.

    Effects per decision, in the outcome's unit, where the interactor is active and where it isn't,
    with 95 % intervals by customer, on customers who took no part in the search; empty where a
    group is too small. ``p_value`` and ``share`` (of the effect's root mean square) are the
    search's; ``share_low``, its lower bound, is how sensitive the finding is to the declared
    relevance: any below it adds the interactor too. ``stability``: the share of half-samples that
    select it.
    """

    outcome = dy.String(primary_key=True)
    candidate = dy.String(primary_key=True)
    members = dy.String(nullable=False)
    is_selected = dy.Bool(nullable=False)
    p_value = dy.Float64(nullable=True, min=0, max=1)
    share = dy.Float64(nullable=True, min=0)
    share_low = dy.Float64(nullable=True)
    stability = dy.Float64(nullable=True, min=0, max=1)
    name = dy.String(nullable=False)
    n_offered = dy.Int64(nullable=False, min=0)
    n_left = dy.Int64(nullable=False, min=0)
    effect_active = dy.Float64(nullable=True)
    active_low = dy.Float64(nullable=True)
    active_high = dy.Float64(nullable=True)
    effect_inactive = dy.Float64(nullable=True)
    inactive_low = dy.Float64(nullable=True)
    inactive_high = dy.Float64(nullable=True)
    difference = dy.Float64(nullable=True)
    difference_low = dy.Float64(nullable=True)
    difference_high = dy.Float64(nullable=True)
    words = dy.String(nullable=False)


class LoggedDecisionRows(dy.Schema):
    """Mart: one row per logged decision."""

    decision_id = dy.String(primary_key=True)
    customer_id = dy.String(nullable=False)
    decision_date = dy.Date(nullable=False)
    delivered_date = dy.Date(nullable=False)
    decided_at = dy.Datetime(nullable=False)
    surface = dy.String(nullable=False)
    eligible_actions = dy.List(dy.String(), nullable=False)
    eligible_propensities = dy.List(dy.Float64(), nullable=True)
    action_id = dy.String(nullable=False)
    realised_action_id = dy.String(nullable=False)
    delivery_status = dy.String(nullable=False)
    propensity = dy.Float64(nullable=True, min_exclusive=0, max=1)
    policy_version = dy.String(nullable=False)
    arm = dy.String(nullable=False)
    experiment = dy.String(nullable=True)
    is_exploration = dy.Bool(nullable=False)


class RealisedOutcomes(dy.Schema):
    """Mart: one row per logged decision, its outcomes over both horizons."""

    decision_id = dy.String(primary_key=True)
    customer_id = dy.String(nullable=False)
    decision_date = dy.Date(nullable=False)
    delivered_date = dy.Date(nullable=False)
    matured_date = dy.Date(nullable=False)
    is_matured = dy.Bool(nullable=False)
    is_accounting_matured = dy.Bool(nullable=False)
    visits = dy.Int64(nullable=False, min=0)
    purchases = dy.Int64(nullable=False, min=0)
    spend = dy.Float64(nullable=False, min=0)
    redemption_cost = dy.Float64(nullable=False, min=0)
    message_cost = dy.Float64(nullable=False, min=0)
    value = dy.Float64(nullable=False)
    cost = dy.Float64(nullable=False, min=0)
    accounting_spend = dy.Float64(nullable=False, min=0)
    accounting_value = dy.Float64(nullable=False)
    accounting_cost = dy.Float64(nullable=False, min=0)


class ActionCatalogue(dy.Schema):
    """Mart: one row per action."""

    action_id = dy.String(primary_key=True)
    family = dy.String(nullable=False)
    channel = dy.String(nullable=True)
    face_value = dy.Float64(nullable=False, min=0)
    message_cost = dy.Float64(nullable=False, min=0)
    is_control = dy.Bool(nullable=False)


class AssignmentTable(dy.Schema):
    """One row per decided customer: what goes out tonight, and why."""

    decision_id = dy.String(primary_key=True)
    customer_id = dy.String(nullable=False)
    decision_date = dy.Date(nullable=False)
    decided_at = dy.Datetime(nullable=False, time_zone="UTC", time_unit="us")
    action_id = dy.String(nullable=False)
    propensity = dy.Float64(nullable=False, min_exclusive=0, max=1)
    eligible_actions = dy.List(dy.String(nullable=False), nullable=False, min_length=1)
    eligible_propensities = dy.List(dy.Float64(nullable=False), nullable=False, min_length=1)
    pruned_actions = dy.List(dy.String(nullable=False), nullable=False)
    pruned_reasons = dy.List(dy.Enum(PRUNING_REASONS, nullable=False), nullable=False)
    send_from = dy.Datetime(nullable=True, time_zone="UTC", time_unit="us")
    send_until = dy.Datetime(nullable=True, time_zone="UTC", time_unit="us")
    is_exploration = dy.Bool(nullable=False)
    arm = dy.String(nullable=False)
    lifecycle = dy.String(nullable=False)
    expected_value_effect = dy.Float64(nullable=False)
    expected_cost_effect = dy.Float64(nullable=False)
    shadow_price = dy.Float64(nullable=False, min=0)
    policy_version = dy.String(nullable=False)
    challenger_version = dy.String(nullable=True)
    champion_propensity = dy.Float64(nullable=True, min=0, max=1)
    challenger_propensity = dy.Float64(nullable=True, min=0, max=1)
    model_versions = dy.String(nullable=False)
    feature_schema_hash = dy.String(nullable=False)
    reason_code = dy.String(nullable=False)
    revision = dy.Int64(nullable=False, min=1)

    @dy.rule()
    def vector_sums_to_one(cls) -> pl.Expr:
        """Require a distribution over the eligible actions."""
        return (pl.col("eligible_propensities").list.sum() - 1).abs() <= 1e-9

    @dy.rule()
    def assigned_is_eligible(cls) -> pl.Expr:
        """No ineligible pair goes out."""
        return pl.col("eligible_actions").list.contains(pl.col("action_id"))


class LimitUsage(dy.Schema):
    """One row per side of a limit of a night: what it allows, and what is expected.

    ``bound`` and ``expected`` in currency or offers, exploration included; ``price`` is the net
    value that one more unit of what is at most, or one fewer of what is at least, would bring.
    """

    limit = dy.String(primary_key=True)
    side = dy.Enum(["most", "least"], primary_key=True)
    measure = dy.Enum(["cost", "offers"], nullable=False)
    bound = dy.Float64(nullable=False)
    expected = dy.Float64(nullable=False)
    price = dy.Float64(nullable=False, min=0)


class NightPace(dy.Schema):
    """One row: tonight's budget, and how it follows from what its period is to pay; currency."""

    period_begin = dy.Date(nullable=False)
    period_end = dy.Date(nullable=False)
    nights_left = dy.Int64(nullable=False, min=1)
    budget = dy.Float64(nullable=False, min=0)
    target = dy.Float64(nullable=False, min=0)
    realised = dy.Float64(nullable=False, min=0)
    outstanding = dy.Float64(nullable=False, min=0)
    reserve = dy.Float64(nullable=False, min=0)
    remaining = dy.Float64(nullable=False)
    later = dy.Float64(nullable=False, min=0)
    timing = dy.Float64(nullable=False, min=0)
    steering = dy.Enum(["steered", "capped", "stopped"], nullable=False)


class BudgetLedger(dy.Schema):
    """One row per family of offers, and one of messages, before a night is decided; currency.

    ``assigned`` in the period so far, at expected cost; ``realised`` in the period, of whatever
    night's offers; ``outstanding``: expected in the period yet of what is out, ``later`` after it.
    ``bias``: paid of a unit that was expected; ``timing``: share of what is paid of a unit assigned
    tonight that falls into the period.
    """

    family = dy.String(primary_key=True)
    assigned = dy.Float64(nullable=False, min=0)
    realised = dy.Float64(nullable=False, min=0)
    outstanding = dy.Float64(nullable=False, min=0)
    later = dy.Float64(nullable=False, min=0)
    bias = dy.Float64(nullable=False, min=0)
    timing = dy.Float64(nullable=False, min=0, max=1)


class BoundaryEffects(dy.Schema):
    """One row per eligibility rule with a band, and outcome: what being eligible there brings.

    ``effect`` in currency per decision in the band, at 95 %; None before there are enough
    decisions, or where their tails allow no interval.
    """

    version = dy.String(nullable=False)
    rule = dy.String(primary_key=True)
    outcome = dy.Enum(["value", "cost", "net_value"], primary_key=True)
    n_eligible = dy.Int64(nullable=False, min=0)
    n_not = dy.Int64(nullable=False, min=0)
    effect = dy.Float64(nullable=True)
    standard_error = dy.Float64(nullable=True)
    low = dy.Float64(nullable=True)
    high = dy.Float64(nullable=True)


class PortfolioEffects(dy.Schema):
    """One row per other surface and outcome: our offers' effect, theirs, and their interaction.

    Currency per decision that both left to chance, over neither, at 95 %. ``interaction`` = both -
    own - other; ``added`` is None where it is proven not to be 0, and ``refusal`` says so, or why
    nothing could be estimated.
    """

    surface = dy.String(primary_key=True)
    outcome = dy.Enum(["value", "cost", "net_value"], primary_key=True)
    n_neither = dy.Int64(nullable=True, min=0)
    n_both = dy.Int64(nullable=True, min=0)
    own = dy.Float64(nullable=True)
    own_low = dy.Float64(nullable=True)
    own_high = dy.Float64(nullable=True)
    other = dy.Float64(nullable=True)
    other_low = dy.Float64(nullable=True)
    other_high = dy.Float64(nullable=True)
    both = dy.Float64(nullable=True)
    both_low = dy.Float64(nullable=True)
    both_high = dy.Float64(nullable=True)
    interaction = dy.Float64(nullable=True)
    interaction_low = dy.Float64(nullable=True)
    interaction_high = dy.Float64(nullable=True)
    added = dy.Float64(nullable=True)
    refusal = dy.String(nullable=True)


class GroupValues(dy.Schema):
    """One row per policy and group of a protected attribute: what it gives, costs and brings.

    ``offer_share`` of the group's decisions; value, cost and net value over no-offer, currency per
    decision, at 95 %.
    """

    policy = dy.String(primary_key=True)
    attribute = dy.String(primary_key=True)
    group = dy.String(primary_key=True)
    n_decisions = dy.Int64(nullable=False, min=1)
    offer_share = dy.Float64(nullable=False, min=0, max=1)
    value = dy.Float64(nullable=False)
    value_low = dy.Float64(nullable=False)
    value_high = dy.Float64(nullable=False)
    cost = dy.Float64(nullable=False)
    cost_low = dy.Float64(nullable=False)
    cost_high = dy.Float64(nullable=False)
    net_value = dy.Float64(nullable=False)
    net_value_low = dy.Float64(nullable=False)
    net_value_high = dy.Float64(nullable=False)


class HoldoutTable(dy.Schema):
    """One row per customer who is due and held out from every offer."""

    customer_id = dy.String(primary_key=True)
    decision_date = dy.Date(nullable=False)
    lifecycle = dy.String(nullable=False)


class PolicyValues(dy.Schema):
    """One row per policy, estimator and reward on the evaluation cohort.

    Of estimator 'tuned', ``method`` is what cross-validation chose for the policy's net value, and
    ``limit`` that of its weights; its interval holds the bias too.
    """

    policy = dy.String(primary_key=True)
    estimator = dy.String(primary_key=True)
    reward = dy.String(primary_key=True)
    method = dy.String(nullable=False)
    limit = dy.Float64(nullable=True, min=0)
    policy_value = dy.Float64(nullable=False)
    standard_error = dy.Float64(nullable=False, min=0)
    low = dy.Float64(nullable=False)
    high = dy.Float64(nullable=False)
    incremental_value = dy.Float64(nullable=False)
    incremental_low = dy.Float64(nullable=False)
    incremental_high = dy.Float64(nullable=False)
    level = dy.Float64(nullable=False)
    effective_sample_size = dy.Float64(nullable=False, min=0)
    n_decisions = dy.Int64(nullable=False, min=0)
    n_customers = dy.Int64(nullable=False, min=0)


class Calibration(dy.Schema):
    """One row per outcome, offer and fifth of the predicted effect: what came true of it.

    Effects per decision in the outcome's unit, on customers that no head was fitted on; ``low`` and
    ``high`` at 95 %.
    """

    outcome = dy.String(primary_key=True)
    action_id = dy.String(primary_key=True)
    bin = dy.Int64(primary_key=True)
    n_rows = dy.Int64(nullable=False, min=1)
    predicted = dy.Float64(nullable=False)
    realised = dy.Float64(nullable=False)
    low = dy.Float64(nullable=False)
    high = dy.Float64(nullable=False)


class EvaluationRecord(dy.Schema):
    """One row per gate: the evidence that a promotion must present again."""

    candidate_version = dy.String(primary_key=True)
    champion_version = dy.String(nullable=False)
    evaluated_for_date = dy.Date(nullable=False)
    judged_since = dy.Date(nullable=False)
    gate_number = dy.Int64(nullable=False, min=1)
    is_passed = dy.Bool(nullable=False)
    reasons = dy.List(dy.String(nullable=False), nullable=False)
    net_value_difference = dy.Float64(nullable=False)
    difference_low = dy.Float64(nullable=False)
    difference_high = dy.Float64(nullable=False)
    smallest_detectable_difference = dy.Float64(nullable=False)
    level = dy.Float64(nullable=False)
    lifecycle_differences = dy.List(
        dy.Struct(
            {
                "lifecycle": dy.String(nullable=False),
                "difference": dy.Float64(nullable=False),
                "high": dy.Float64(nullable=False),
            },
            nullable=False,
        ),
        nullable=False,
    )
    promise_slope = dy.Float64(nullable=True)
    offer_share = dy.Float64(nullable=False, min=0, max=1)
    logged_offer_share = dy.Float64(nullable=False, min=0, max=1)
    expected_cost = dy.Float64(nullable=False)
    budget_per_decision = dy.Float64(nullable=False)
    effective_sample_size = dy.Float64(nullable=False)
    mean_importance_weight = dy.Float64(nullable=False)
    largest_weight_share = dy.Float64(nullable=False)
    skewness_ratio = dy.Float64(nullable=False)
    matched_share = dy.Float64(nullable=False)
    n_decisions = dy.Int64(nullable=False)
    n_customers = dy.Int64(nullable=False)
    candidate_hash = dy.String(nullable=False)
    feature_schema_hash = dy.String(nullable=False)
    data_hash = dy.String(nullable=False)
    programme_hash = dy.String(nullable=False)


class BudgetCurve(dy.Schema):
    """One row per policy and budget: its net value over no-offer, currency per decision."""

    policy = dy.String(primary_key=True)
    budget_per_decision = dy.Float64(primary_key=True, min=0)
    shadow_price = dy.Float64(nullable=False, min=0)
    cost = dy.Float64(nullable=False)
    incremental_net_value = dy.Float64(nullable=False)
    low = dy.Float64(nullable=False)
    high = dy.Float64(nullable=False)
    level = dy.Float64(nullable=False)


class Promotion(dy.Schema):
    """One row: what the gate's record of the date came to."""

    candidate_version = dy.String(primary_key=True)
    champion_version = dy.String(nullable=False)
    is_promoted = dy.Bool(nullable=False)
    reason = dy.String(nullable=False)


class OnlineValidation(dy.Schema):
    """One row: the champion's realised net value minus that of the policy it replaced, so far.

    ``difference``, ``low`` and ``high`` in currency per decision, anytime-valid at ``level``; None
    before there are enough decisions.
    """

    champion_version = dy.String(primary_key=True)
    challenger_version = dy.String(nullable=False)
    since = dy.Date(nullable=False)
    n_decisions = dy.Int64(nullable=False, min=0)
    n_challenger = dy.Int64(nullable=False, min=0)
    difference = dy.Float64(nullable=True)
    low = dy.Float64(nullable=True)
    high = dy.Float64(nullable=True)
    level = dy.Float64(nullable=True)
    status = dy.Enum(["running", "better", "harmful", "ended"], nullable=False)


class Monitoring(dy.Schema):
    """One row per signal and subject of a night; it alarms above its limit."""

    signal = dy.Enum(
        ["propensities", "sample_ratio", "costs", "effects", "catalogue", "features"],
        primary_key=True,
    )
    subject = dy.String(primary_key=True)
    statistic = dy.Float64(nullable=False)
    limit = dy.Float64(nullable=False)
    n_rows = dy.Int64(nullable=False, min=0)
    is_alarm = dy.Bool(nullable=False)


class ChampionChange(dy.Schema):
    """One row per change of champion on a date, in order; ``fitted_date`` is the new one's."""

    number = dy.Int64(primary_key=True, min=1)
    from_version = dy.String(nullable=True)
    to_version = dy.String(nullable=False)
    fitted_date = dy.Date(nullable=True)
    cause = dy.Enum(["first", "promoted", "approved", "rolled_back", "demoted"], nullable=False)
    reason = dy.String(nullable=False)


class RandomisationChecks(dy.Schema):
    """One row per randomisation check of a training snapshot."""

    check = dy.String(primary_key=True)
    subject = dy.String(primary_key=True)
    statistic = dy.Float64(nullable=False)
    threshold = dy.Float64(nullable=False)
    is_passed = dy.Bool(nullable=False)


class ExperimentEffects(dy.Schema):
    """One row per offer and outcome: unadjusted difference to no-offer.

    ``effect`` is of being assigned the offer, ``complier_effect`` of receiving it among those whom
    it reaches when assigned; None where deliveries don't say.
    """

    action_id = dy.String(primary_key=True)
    outcome = dy.String(primary_key=True)
    n_offered = dy.Int64(nullable=False)
    n_control = dy.Int64(nullable=False)
    effect = dy.Float64(nullable=False)
    standard_error = dy.Float64(nullable=False)
    low = dy.Float64(nullable=False)
    high = dy.Float64(nullable=False)
    complier_effect = dy.Float64(nullable=True)
    complier_low = dy.Float64(nullable=True)
    complier_high = dy.Float64(nullable=True)


class ActionPlan(dy.Schema):
    """One row per lifecycle and action: its support, and what the next exploration should do."""

    lifecycle = dy.String(primary_key=True)
    action_id = dy.String(primary_key=True)
    family = dy.String(nullable=False)
    channel = dy.String(nullable=False)
    face_value = dy.Float64(nullable=False, min=0)
    proposal = dy.Enum(["keep", "drop", "add"], nullable=False)
    reason = dy.String(nullable=False)
    n_rows = dy.Int64(nullable=False, min=0)
    effective_rows = dy.Float64(nullable=False, min=0)
    mean_propensity = dy.Float64(nullable=True)
    smallest_propensity = dy.Float64(nullable=True)
    net_effect = dy.Float64(nullable=True)
    low = dy.Float64(nullable=True)
    high = dy.Float64(nullable=True)
    needed_decisions = dy.Int64(nullable=True)
    needed_weeks = dy.Float64(nullable=True)


class LearningSettingsRow(dy.Schema):
    """One row per search: the best tree settings tried, and whether trainings use them."""

    searched_for_date = dy.Date(primary_key=True)
    n_trees = dy.Int64(nullable=False, min=1)
    n_leaves = dy.Int64(nullable=False, min=2)
    minimum_leaf_rows = dy.Int64(nullable=False, min=1)
    learning_rate = dy.Float64(nullable=False, min_exclusive=0)
    ridge = dy.Float64(nullable=False, min=0)
    risk_difference = dy.Float64(nullable=False)
    confirmed_difference = dy.Float64(nullable=False)
    confirmed_error = dy.Float64(nullable=False, min=0)
    is_pinned = dy.Bool(nullable=False)
    n_trials = dy.Int64(nullable=False, min=1)
    data_hash = dy.String(nullable=False)
