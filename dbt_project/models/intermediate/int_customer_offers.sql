with spine as (

    select * from {{ ref('int_decision_spine') }}

),

assignments as (

    select * from {{ ref('stg_assignments') }}

),

actions as (

    select * from {{ ref('action_catalogue') }}

)

select
    spine.customer_id,
    spine.decision_date,
    count(*) as offers_28d
from spine
inner join assignments
    on
        spine.customer_id = assignments.customer_id
        and assignments.decided_at < spine.decision_at
        and assignments.delivered_date <= spine.decision_date
        and assignments.decided_at >= {{ dbt.dateadd('day', -28, 'spine.decision_at') }}
inner join actions
    on assignments.action_id = actions.action_id
where not actions.is_control
group by spine.customer_id, spine.decision_date
