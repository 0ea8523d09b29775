"""Hard rules: who may get what, why not, and what a boundary costs."""

import json
from dataclasses import replace
from datetime import date, time

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, EVENLY, PROGRAMME, make_rows

from ml.core.contexts import build_contexts
from ml.core.errors import ContractError
from ml.core.programme import parse_programme
from ml.core.rules import Eligibility, EligibilityRule, QuietHours
from ml.pipeline.decide import decide_night
from ml.pipeline.eligibility import estimate_boundary_effects, restrict
from ml.pipeline.policies import ExplorationOnly

NIGHT = date(2026, 3, 2)
OLD = EligibilityRule(
    name="adults", feature="age", families=("coupon",), at_least=40, band=10, band_share=0.4
)
RULES = Eligibility(version="1", valid_from=date(2026, 1, 1), rules=(OLD,))


def _contexts(programme=PROGRAMME, n=4_000):
    rows, _ = make_rows(20, n=n)
    return build_contexts(rows, programme=programme, actions=ACTIONS)


def _ages(frame):
    return frame["attributes"].str.json_path_match("$.age").cast(pl.Float64).to_numpy()


def _restrict(programme, contexts=None, **changes):
    contexts = contexts or _contexts()
    arguments = {
        "actions": ACTIONS,
        "offered": ACTIONS.action_ids,
        "night": NIGHT,
        **changes,
    }
    return restrict(contexts, programme=programme, **arguments)


def test_a_rule_keeps_offers_from_whom_they_are_not_for():
    contexts = _contexts()
    kept, pruned = _restrict(replace(PROGRAMME, eligibility=RULES), contexts)
    coupon, ad = (ACTIONS.action_ids.index(each) for each in ("email_coupon_2", "email_ad"))
    age = _ages(contexts.frame)
    assert kept.eligible[age >= 40, coupon].all()
    assert not kept.eligible[age < 30, coupon].any()
    band = (age < 40) & (age >= 30)
    assert kept.eligible[band, coupon].mean() == pytest.approx(0.4, abs=0.06)
    assert kept.eligible[:, ad].all()
    assert kept.eligible[:, 0].all()
    assert (pruned.is_kept == kept.eligible).all()
    again, _ = _restrict(replace(PROGRAMME, eligibility=replace(RULES, version="2")), contexts)
    assert (again.eligible[band, coupon] != kept.eligible[band, coupon]).any()


def test_unknown_lies_outside_and_a_wrong_feature_is_refused():
    rows, _ = make_rows(20, n=50)
    unknown = build_contexts(
        rows.with_columns(attributes=pl.lit("{}")), programme=PROGRAMME, actions=ACTIONS
    )
    kept, _ = _restrict(replace(PROGRAMME, eligibility=RULES), unknown)
    assert not kept.eligible[:, ACTIONS.action_ids.index("email_coupon_2")].any()
    wrong = replace(RULES, rules=(replace(OLD, feature="shoe_size"),))
    with pytest.raises(ContractError, match=r"'shoe_size'; known are .*age"):
        _restrict(replace(PROGRAMME, eligibility=wrong))


def test_cap_quiet_hours_and_withdrawn_offers_have_their_own_reasons():
    contexts = _contexts(n=500)
    programme = replace(PROGRAMME, most_offers_28d=10)
    offered = [each for each in ACTIONS.action_ids if each != "email_ad"]
    _, pruned = _restrict(programme, contexts, offered=offered, quiet_channels=["text"])
    full = contexts.frame["offers_28d"].to_numpy() >= 10
    email = ACTIONS.action_ids.index("email_coupon_2")
    codes = {name: pruned.codes[:, ACTIONS.action_ids.index(name)] for name in ACTIONS.action_ids}
    assert set(codes["email_ad"]) == {1}
    # Their only open channel is e-mail.
    assert set(codes["text_ad"]) == {2}
    assert (pruned.codes[:, email] == np.where(full, 4, 0)).all()
    open_all = replace(contexts, eligible=np.ones_like(contexts.eligible))
    _, quiet = _restrict(PROGRAMME, open_all, quiet_channels=["text"])
    assert set(quiet.codes[:, ACTIONS.action_ids.index("text_ad")]) == {5}


def test_a_night_never_gives_what_a_rule_forbids_and_says_when_to_send(candidate):
    rows, _ = make_rows(20, n=3_000)
    features = rows.with_columns(decision_date=pl.lit(NIGHT), is_due=pl.lit(True))
    quiet = QuietHours(begin=time(20), end=time(9))
    for policy in (candidate, ExplorationOnly(ACTIONS, 0.02, 50.0, EVENLY)):
        table = decide_night(
            features,
            policy=policy,
            policy_version="2",
            catalogue=ACTIONS,
            programme=replace(
                PROGRAMME, eligibility=RULES, most_offers_28d=15, quiet_hours=(quiet,)
            ),
            decision_date=NIGHT,
        ).assignments
        seen = table.join(rows.select("customer_id", "attributes", "offers_28d"), on="customer_id")
        is_offer = seen["action_id"] != "no_offer"
        assert seen.filter(is_offer)["offers_28d"].max() < 15
        assert _ages(seen.filter(is_offer & seen["action_id"].str.contains("coupon"))).min() >= 30
        assert (table["send_from"].is_not_null() == (table["action_id"] != "no_offer")).all()
        assert table["send_from"].dt.hour().drop_nulls().unique().to_list() == [9]
        assert table["send_until"].dt.hour().drop_nulls().unique().to_list() == [20]
        pairs = table.explode("pruned_actions", "pruned_reasons")
        hard = pairs.filter(pl.col("pruned_reasons").is_in(["not_eligible", "frequency_cap"]))
        assert hard.height
        # Each action of a customer is eligible or pruned by a hard rule, never both.
        listed = table.explode("eligible_actions")
        assert hard.join(
            listed,
            left_on=["customer_id", "pruned_actions"],
            right_on=["customer_id", "eligible_actions"],
        ).is_empty()
        full = seen.filter(pl.col("offers_28d") >= 15)
        if policy is candidate:
            assert set(full.filter(~full["is_exploration"])["reason_code"]) == {"not_eligible"}
            assert "eligibility=1" in table["model_versions"][0]


def test_rules_that_are_not_valid_yet_do_not_bind():
    later = replace(RULES, valid_from=date(2027, 1, 1))
    kept, pruned = _restrict(replace(PROGRAMME, eligibility=later))
    assert (kept.eligible == _contexts().eligible).all()
    assert not (pruned.codes == 3).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"eligibility": replace(RULES, rules=(replace(OLD, families=("coupons",)),))},
            r"rule 'adults' names families .'coupons'",
        ),
        (
            {"quiet_hours": (QuietHours(begin=time(1), end=time(2), channels=("e-mail",)),)},
            r"quiet hours names channels .'e-mail'",
        ),
    ],
)
def test_names_that_nobody_offers_are_refused(candidate, changes, message):
    rows, _ = make_rows(20, n=50)
    features = rows.with_columns(decision_date=pl.lit(NIGHT), is_due=pl.lit(True))
    with pytest.raises(ContractError, match=message):
        decide_night(
            features,
            policy=candidate,
            policy_version="2",
            catalogue=ACTIONS,
            programme=replace(PROGRAMME, **changes),
            decision_date=NIGHT,
        )


def test_a_programme_decides_on_its_own_audience_alone():
    rows, _ = make_rows(20, n=3_000)
    features = rows.with_columns(decision_date=pl.lit(NIGHT), is_due=pl.lit(True))
    policy = ExplorationOnly(ACTIONS, 0.02, 0.6, EVENLY)

    def decide(audience, name):
        return decide_night(
            features,
            policy=policy,
            policy_version="2",
            catalogue=ACTIONS,
            programme=replace(PROGRAMME, audience=audience, surface=name),
            decision_date=NIGHT,
        )

    everybody = decide((0.0, 1.0), "a")
    parts = [decide((0.0, 0.25), "a"), decide((0.25, 1.0), "b")]
    ids = [set(each.assignments["customer_id"]) for each in parts]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == set(everybody.assignments["customer_id"])
    assert parts[0].budget + parts[1].budget == pytest.approx(everybody.budget)
    # Programmes that decide on the same customers draw apart.
    other = decide((0.0, 1.0), "b").assignments
    both = everybody.assignments.join(other, on="customer_id", suffix="_b")
    offered = both.select(
        a=pl.col("action_id") != "no_offer", b=pl.col("action_id_b") != "no_offer"
    )
    assert abs(offered.select(pl.corr("a", "b")).item()) < 0.06


def test_what_a_boundary_costs_is_estimated_where_chance_decides():
    random = np.random.default_rng(4)
    programme = replace(PROGRAMME, eligibility=RULES)
    estimates = []
    for seed in range(60):
        rows, _ = make_rows(100 + seed, n=3_000)
        contexts = build_contexts(rows, programme=PROGRAMME, actions=ACTIONS)
        kept, _ = _restrict(programme, contexts)
        is_in = kept.eligible[:, ACTIONS.action_ids.index("email_coupon_2")]
        # Being eligible brings 0.7 in value and costs 0.2.
        value = 4 + 0.7 * is_in + random.normal(0, 1, len(is_in))
        matured = rows.with_columns(
            value=pl.Series(value), cost=pl.Series(0.2 * is_in), is_holdout=pl.lit(False)
        )
        effects = estimate_boundary_effects(matured, programme=programme)
        estimates.append(effects.filter(outcome="net_value").row(0, named=True))
    table = pl.DataFrame(estimates)
    covers = ((table["low"] <= 0.5) & (table["high"] >= 0.5)).mean()
    assert covers >= 0.85
    assert table["effect"].mean() == pytest.approx(0.5, abs=0.03)
    early = replace(RULES, valid_from=date(2027, 1, 1))
    later = estimate_boundary_effects(matured, programme=replace(programme, eligibility=early))
    assert later["effect"].null_count() == later.height == 3
    assert estimate_boundary_effects(matured, programme=PROGRAMME).is_empty()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eligibility": {"version": "1", "rules": []}}, "valid_from"),
        (
            {
                "eligibility": {
                    "version": "1",
                    "valid_from": "2026-01-01",
                    "rules": [{"name": "a", "feature": "age"}],
                }
            },
            "at_least or at_most",
        ),
        ({"most_offers_28d": 0}, "most_offers_28d"),
        ({"timezone": "Berlin"}, "no time zone"),
        (
            {"quiet_hours": [{"begin": "21:00", "end": "08:00", "weekdays": ["sonntag"]}]},
            "no weekdays",
        ),
        ({"quiet_hours": [{"begin": "25:00", "end": "08:00"}]}, "hour must be"),
        ({"pacing": {"period_budget": 0, "begins": "2026-03-01"}}, "period_budget"),
        ({"most_cost_per_value": -1}, "most_cost_per_value"),
        ({"least_return": -1}, "least_return"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, message):
    with pytest.raises(ContractError, match=message):
        parse_programme({**json.loads(PROGRAMME.to_json()), **changes})


def test_rules_are_read_from_the_file_as_they_were_written():
    rules = {
        "eligibility": {
            "version": "7",
            "valid_from": "2026-03-01",
            "rules": [{"name": "adults", "feature": "age", "at_least": 18, "families": ["coupon"]}],
        },
        "quiet_hours": [{"begin": "21:00", "end": "08:00", "channels": ["text"]}],
        "timezone": "Europe/Berlin",
        "pacing": {"period_budget": 9_000, "begins": "2026-03-01"},
    }
    programme = parse_programme({**json.loads(PROGRAMME.to_json()), **rules})
    assert programme.eligibility.rules[0].families == ("coupon",)
    assert programme.quiet_hours[0].begin == time(21)
    assert programme.pacing.period_days == 30
    assert parse_programme(json.loads(programme.to_json())) == programme
