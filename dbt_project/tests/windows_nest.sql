{{ config(meta={'dagster': {'ref': {'name': 'customer_features'}}}) }}

-- A longer window holds at least what a shorter one does.
select
    customer_id,
    decision_date
from {{ ref('customer_features') }}
where
    visits_7d > visits_28d
    or visits_28d > visits_90d
    or purchases_7d > purchases_28d
    or purchases_28d > purchases_90d
    or spend_7d > spend_28d + 1e-9
    or spend_28d > spend_90d + 1e-9
