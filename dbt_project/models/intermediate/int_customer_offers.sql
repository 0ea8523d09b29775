with spine as (

    select * from {{ ref('int_decision_spine') }}

),

assignments as (

    select * from {{ ref('stg_assignments') }}

),

controls as (

    select distinct action_id from {{ ref('stg_actions') }}
    where is_control

)

select
    spine.customer_id,
    spine.decision_date,
    count(*) filter (where assignments.is_own) as offers_28d,
    count(*) filter (
        where not assignments.is_own
        and assignments.decided_at >= {{ dbt.dateadd('day', -7, 'spine.decision_at') }}
    ) as other_offers_7d,
    {{ mark_days('assignments.decided_at', 'spine.decision_at', 28) }} filter (
        where assignments.is_own
    ) as offer_days
from spine
inner join assignments
    on
        spine.customer_id = assignments.customer_id
        and assignments.decided_at < spine.decision_at
        and assignments.delivered_date <= spine.decision_date
        and assignments.decided_at >= {{ dbt.dateadd('day', -28, 'spine.decision_at') }}
left join controls
    on assignments.action_id = controls.action_id
where controls.action_id is null
group by spine.customer_id, spine.decision_date
