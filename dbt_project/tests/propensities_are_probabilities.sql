{{ config(meta={'dagster': {'ref': {'name': 'logged_decisions'}}}) }}

-- Every logged propensity lies in (0, 1] and every full vector sums to 1.
select
    decision_id,
    propensity
from {{ ref('logged_decisions') }}
where
    propensity <= 0
    or propensity > 1
    or abs({{ sum_list('eligible_propensities') }} - 1) > 1e-6
