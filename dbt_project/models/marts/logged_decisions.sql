{{ config(pre_hook="{{ replace_rows(touched_decisions()) }}") }}

with assignments as (

    select * from {{ ref('stg_assignments') }}
    where is_own

),

deliveries as (

    select
        *,
        row_number() over (
            partition by decision_id
            order by delivered_date desc, delivered_at desc
        ) as receipt_rank
    from {{ ref('stg_deliveries') }}

)

select
    cast(assignments.decision_id as {{ dbt.type_string() }}) as decision_id,
    cast(assignments.customer_id as {{ dbt.type_string() }}) as customer_id,
    cast(assignments.decision_date as date) as decision_date,
    cast(assignments.delivered_date as date) as delivered_date,
    cast(assignments.decided_at as timestamp) as decided_at,
    cast(assignments.surface as {{ dbt.type_string() }}) as surface,
    assignments.eligible_actions,
    assignments.eligible_propensities,
    cast(assignments.action_id as {{ dbt.type_string() }}) as action_id,
    cast(coalesce(deliveries.realised_action_id, assignments.action_id) as {{ dbt.type_string() }})
        as realised_action_id,
    cast(coalesce(deliveries.status, 'unconfirmed') as {{ dbt.type_string() }}) as delivery_status,
    cast(assignments.propensity as double) as propensity,
    cast(assignments.policy_version as {{ dbt.type_string() }}) as policy_version,
    cast(assignments.arm as {{ dbt.type_string() }}) as arm,
    cast(assignments.experiment as {{ dbt.type_string() }}) as experiment,
    cast(assignments.is_exploration as boolean) as is_exploration
from assignments
left join deliveries
    on
        assignments.decision_id = deliveries.decision_id
        and deliveries.receipt_rank = 1
{% if is_incremental() %}
    where
        assignments.delivered_date between cast('{{ var("start_date") }}' as date)
        and cast('{{ var("end_date") }}' as date)
        or assignments.decision_date between {{ days_before(var("start_date"), closing_days() + 1) }}
        and cast('{{ var("end_date") }}' as date)
{% endif %}
