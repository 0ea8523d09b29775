with customers as (

    select * from {{ ref('stg_customers') }}

),

assignments as (

    select * from {{ ref('stg_assignments') }}

),

dates as (

    {{ list_dates(var('start_date'), var('end_date')) }}

),

known_versions as (

    select
        customers.*,
        dates.decision_date,
        row_number() over (
            partition by customers.customer_id, dates.decision_date
            order by
                customers.valid_from desc,
                customers.available_at desc,
                customers.delivered_date desc
        ) as version_rank
    from customers
    inner join dates
        on
            cast(customers.valid_from as date) < dates.decision_date
            and cast(customers.available_at as date) < dates.decision_date
            and customers.delivered_date <= dates.decision_date
            and customers.signed_up_at < dates.decision_date

),

due_customers as (

    select
        customer_id,
        decision_date,
        signed_up_at,
        attributes,
        is_holdout,
        is_evaluation,
        decision_date as built_for_date,
        true as is_due
    from known_versions
    where
        version_rank = 1
        and decision_date >= cast('{{ var("first_decision_date") }}' as date)
        and mod(
            {{ dbt.datediff("cast('" ~ var('first_decision_date') ~ "' as date)", 'decision_date', 'day') }},
            {{ var('learning_horizon_days') }}
        ) = decision_cohort

),

-- Decisions that another calendar than ours produced: a company's own earlier logs.
other_decisions as (

    select
        assignments.customer_id,
        assignments.decision_date,
        customers.signed_up_at,
        customers.attributes,
        customers.is_holdout,
        customers.is_evaluation,
        assignments.delivered_date as built_for_date,
        row_number() over (
            partition by assignments.customer_id, assignments.decision_date
            order by
                assignments.delivered_date asc,
                customers.valid_from desc,
                customers.available_at desc,
                customers.delivered_date desc
        ) as version_rank
    from assignments
    inner join customers
        on
            assignments.customer_id = customers.customer_id
            and customers.valid_from <= assignments.decided_at
            and customers.available_at <= assignments.decided_at
            and customers.delivered_date <= assignments.delivered_date
    where
        assignments.is_own
        and assignments.delivered_date between cast('{{ var("start_date") }}' as date)
        and cast('{{ var("end_date") }}' as date)
        and (
            assignments.decision_date < cast('{{ var("first_decision_date") }}' as date)
            or mod(
                {{ dbt.datediff("cast('" ~ var('first_decision_date') ~ "' as date)", 'assignments.decision_date', 'day') }},
                {{ var('learning_horizon_days') }}
            ) <> customers.decision_cohort
        )

),

spine as (

    select
        customer_id,
        decision_date,
        signed_up_at,
        attributes,
        is_holdout,
        is_evaluation,
        built_for_date,
        is_due
    from due_customers
    union all
    select
        customer_id,
        decision_date,
        signed_up_at,
        attributes,
        is_holdout,
        is_evaluation,
        built_for_date,
        false as is_due
    from other_decisions
    where version_rank = 1

)

select
    *,
    cast(decision_date as timestamp) as decision_at
from spine
