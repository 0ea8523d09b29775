"""Decide: who may get what, by hard rules; and what the rules' boundaries cost."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl

from ml.allocation.pruning import PrunedPairs
from ml.core.actions import ActionSet
from ml.core.contexts import BEHAVIOUR_FEATURES, Contexts
from ml.core.errors import ContractError, SupportError
from ml.core.hashing import hash_uniform
from ml.core.programme import Programme
from ml.core.rules import Eligibility, EligibilityRule
from ml.core.schemas import BoundaryEffects
from ml.ope.diagnostics import diagnose_tail
from ml.ope.intervals import estimate_mean

_LEAST_DECISIONS = 30
# The same for every programme: their audiences are parts of one division.
_AUDIENCE_SALT = "audience"


def take_audience(features: pl.DataFrame, programme: Programme) -> pl.DataFrame:
    """Return the customers that are this programme's to decide on.

    Parameters
    ----------
    features
        Rows with customer_id.
    programme
        Its audience, a part of the customers by a hash that all programmes share.

    Returns
    -------
    pl.DataFrame
        All of them where the audience is everybody.
    """
    low, high = programme.audience
    place = hash_uniform(features["customer_id"], salt=_AUDIENCE_SALT)
    return features.filter(pl.Series((place >= low) & (place < high)))


def check_names(programme: Programme, *known: ActionSet) -> None:
    """Check that eligibility rules and quiet hours name what is offered, or was.

    Parameters
    ----------
    programme
        Its rules.
    known
        Tonight's actions and the policy's.

    Raises
    ------
    ContractError
        With the rule, the unknown name and the known ones.
    """
    actions = {each for one in known for each in one.action_ids[1:]}
    channels = {each for one in known for each in one.channels[1:]}
    families = {each for one in known for each in one.families[1:]}
    rules = () if programme.eligibility is None else programme.eligibility.rules
    named = [
        (f"eligibility rule '{rule.name}'", kind, getattr(rule, kind), names)
        for rule in rules
        for kind, names in (("actions", actions), ("channels", channels), ("families", families))
    ]
    named += [
        ("quiet hours", "channels", each.channels, channels) for each in programme.quiet_hours
    ]
    for subject, kind, wanted, names in named:
        unknown = sorted(set(wanted) - names)
        if unknown:
            raise ContractError(
                f"programme.json: {subject} names {kind} {unknown}; known are {sorted(names)}"
            )


def restrict(
    contexts: Contexts,
    *,
    programme: Programme,
    actions: ActionSet,
    offered: Sequence[str],
    night: date,
    quiet_channels: Sequence[str] = (),
) -> tuple[Contexts, PrunedPairs]:
    """Leave out the pairs that no rule of the night allows, exploration included.

    Parameters
    ----------
    contexts
        n customers; their eligibility is what consent and contactability allow.
    programme
        Eligibility rules, frequency cap.
    actions
        The K actions of the contexts.
    offered
        Action ids of tonight's catalogue.
    night
        Rules that are not valid yet don't bind.
    quiet_channels
        Without an hour to send tonight.

    Returns
    -------
    tuple
        Contexts with what is left, and the reasons of the rest.

    Raises
    ------
    ContractError
        If a rule's feature is none.
    """
    pruned = PrunedPairs(*contexts.eligible.shape)
    pruned.mark(~np.isin(actions.action_ids, offered), "not_offered")
    pruned.mark(~contexts.eligible, "not_contactable")
    if programme.eligibility is not None and programme.eligibility.valid_from <= night:
        for rule in programme.eligibility.rules:
            inside = _is_inside(contexts.frame, rule, programme.eligibility, programme)
            mine = actions.select(
                actions=rule.actions, channels=rule.channels, families=rule.families
            )
            pruned.mark(np.outer(~inside, mine), "not_eligible")
    if programme.most_offers_28d is not None:
        is_full = contexts.frame["offers_28d"].to_numpy() >= programme.most_offers_28d
        pruned.mark(is_full[:, None], "frequency_cap")
    pruned.mark(np.isin(actions.channels, quiet_channels), "quiet_hours")
    return replace(contexts, eligible=pruned.is_kept), pruned


def estimate_boundary_effects(matured: pl.DataFrame, *, programme: Programme) -> pl.DataFrame:
    """Estimate what moving each rule's boundary out by its band would bring.

    Within the band chance makes a share of the customers eligible, by a hash that stays while the
    version does; the others' mean is subtracted from theirs, decisions since the version began,
    clustered by customer. The effect is of being eligible under the policies that decided, per
    decision in the band.

    Parameters
    ----------
    matured
        Joined mart rows of matured decisions.
    programme
        Its eligibility rules.

    Returns
    -------
    pl.DataFrame
        BoundaryEffects rows: rule and outcome; effects None with too few decisions.

    Raises
    ------
    ContractError
        If a rule's feature is none.
    """
    rows: list[dict[str, object]] = []
    rules = programme.eligibility
    for rule in () if rules is None else rules.rules:
        if rules is None or rule.band == 0:
            continue
        since = matured.filter(
            (pl.col("decision_date") >= rules.valid_from) & ~pl.col("is_holdout")
        )
        values = _read_feature(since, rule, programme)
        beyond = since.filter(_is_beyond(values, rule))
        is_in = _draw_band(beyond, rule, rules)
        for outcome, amount in (
            ("value", beyond["value"].to_numpy()),
            ("cost", beyond["cost"].to_numpy()),
            ("net_value", (beyond["value"] - beyond["cost"]).to_numpy()),
        ):
            row: dict[str, object] = {
                "version": rules.version,
                "rule": rule.name,
                "outcome": outcome,
                "n_eligible": int(is_in.sum()),
                "n_not": int((~is_in).sum()),
            }
            if min(is_in.sum(), (~is_in).sum()) >= _LEAST_DECISIONS:
                row |= _contrast(amount, is_in, beyond["customer_id"])
            rows.append(row)
    return BoundaryEffects.validate(
        pl.DataFrame(rows, schema=BoundaryEffects.create_empty().schema)
    )


def _contrast(amount: np.ndarray, is_in: np.ndarray, customer_id: pl.Series) -> dict[str, object]:
    """Return the difference of means with its interval, nothing where tails allow none."""
    share = is_in.mean()
    inside, outside = amount[is_in].mean(), amount[~is_in].mean()
    influence = np.where(is_in, (amount - inside) / share, -(amount - outside) / (1 - share))
    customer = customer_id.rank("dense").to_numpy().astype(np.int64) - 1
    try:
        diagnose_tail(influence, customer).require()
    except SupportError:
        return {}
    estimate = estimate_mean(inside - outside + influence, customer)
    return {
        "effect": estimate.value,
        "standard_error": estimate.standard_error,
        "low": estimate.low,
        "high": estimate.high,
    }


def _is_inside(
    frame: pl.DataFrame, rule: EligibilityRule, rules: Eligibility, programme: Programme
) -> np.ndarray:
    """Return who is eligible under a rule, the drawn ones of its band too, shape (n,), bool."""
    values = _read_feature(frame, rule, programme)
    low = -np.inf if rule.at_least is None else rule.at_least
    high = np.inf if rule.at_most is None else rule.at_most
    inside = (values >= low) & (values <= high)
    return np.asarray(inside | (_is_beyond(values, rule) & _draw_band(frame, rule, rules)))


def _is_beyond(values: np.ndarray, rule: EligibilityRule) -> np.ndarray:
    """Return who lies outside a rule's bounds, but within its band; unknown values don't."""
    beyond = np.zeros(len(values), dtype=bool)
    if rule.at_least is not None:
        beyond |= (values < rule.at_least) & (values >= rule.at_least - rule.band)
    if rule.at_most is not None:
        beyond |= (values > rule.at_most) & (values <= rule.at_most + rule.band)
    return beyond


def _draw_band(frame: pl.DataFrame, rule: EligibilityRule, rules: Eligibility) -> np.ndarray:
    """Return whom chance makes eligible in the band, the same customers for a whole version."""
    salt = f"eligibility-{rules.version}-{rule.name}"
    return hash_uniform(frame["customer_id"], salt=salt) < rule.band_share


def _read_feature(frame: pl.DataFrame, rule: EligibilityRule, programme: Programme) -> np.ndarray:
    """Return a rule's feature, NaN where unknown, shape (n,)."""
    numbers = [each.name for each in programme.attributes if each.kind == "number"]
    if rule.feature in BEHAVIOUR_FEATURES:
        column = frame[rule.feature].cast(pl.Float64)
    elif rule.feature in numbers:
        column = frame.select(
            pl.col("attributes")
            .str.json_path_match(f"$['{rule.feature}']")
            .cast(pl.Float64, strict=False)
        ).to_series()
    else:
        raise ContractError(
            f"programme.json: eligibility rule '{rule.name}' names the feature '{rule.feature}'; "
            f"known are {', '.join([*BEHAVIOUR_FEATURES, *numbers])}"
        )
    return column.fill_null(float("nan")).to_numpy()
