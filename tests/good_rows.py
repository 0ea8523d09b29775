"""One good row of each contract table; tests change it."""

AT = "2026-01-05T01:30:00Z"
GOOD = {
    "customers": {
        "customer_id": "c1",
        "valid_from": AT,
        "signed_up_at": AT,
        "attributes": '{"age": 41}',
        "available_at": AT,
    },
    "actions": {
        "action_id": "mail",
        "family": "ad",
        "channel": "email",
        "face_value": 0.0,
        "message_cost": 0.1,
        "is_control": False,
        "surface": None,
    },
    "assignments": {
        "decision_id": "d1",
        "customer_id": "c1",
        "decided_at": AT,
        "surface": "app",
        "eligible_actions": ["none", "mail"],
        "action_id": "mail",
        "propensity": 0.4,
        "eligible_propensities": [0.6, 0.4],
        "policy_version": "v1",
        "arm": "test",
        "experiment": "e1",
        "is_exploration": True,
    },
    "deliveries": {
        "decision_id": "d1",
        "status": "delivered",
        "realised_action_id": "mail",
        "delivered_at": AT,
    },
    "events": {
        "customer_id": "c1",
        "occurred_at": AT,
        "available_at": AT,
        "type": "purchase",
        "amount": 5.0,
        "decision_id": None,
        "item": "rye",
    },
    "contactability": {
        "customer_id": "c1",
        "channel": "email",
        "valid_from": AT,
        "is_allowed": True,
    },
    "media_spend": {"day": "2026-01-05", "channel": "tv", "spend": 5.0, "impressions": None},
    "media_kpi": {"day": "2026-01-05", "kpi": 100.0},
}
