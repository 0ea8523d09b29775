{{ config(pre_hook="{{ replace_rows(touched_decisions()) }}") }}

with decisions as (

    select * from {{ ref('logged_decisions') }}
    {% if is_incremental() %}
        where {{ touched_decisions() }}
    {% endif %}

),

events as (

    select * from {{ ref('stg_events') }}

),

actions as (

    select * from {{ ref('action_catalogue') }}

),

horizons as (

    select
        *,
        {{ dbt.dateadd('day', var('learning_horizon_days'), 'decided_at') }} as learning_until,
        {{ dbt.dateadd('day', var('accounting_horizon_days'), 'decided_at') }} as accounting_until,
        {{ dbt.dateadd('day', closing_days(), 'decided_at') }} as closed_at,
        cast(
            {{ dbt.dateadd('day', var('learning_horizon_days') + var('settlement_days'), 'decision_date') }}
            as timestamp
        ) as matured_at
    from decisions

),

-- Everything the customer did counts as value, attributed or not: the comparison is between arms.
behaviour as (

    select
        horizons.decision_id,
        count(*) filter (
            where events.event_type = 'visit' and events.occurred_at < horizons.learning_until
            and events.available_at < horizons.matured_at
        ) as visits,
        count(*) filter (
            where events.event_type = 'purchase' and events.occurred_at < horizons.learning_until
            and events.available_at < horizons.matured_at
        ) as purchases,
        sum(events.amount) filter (
            where events.event_type = 'purchase' and events.occurred_at < horizons.learning_until
            and events.available_at < horizons.matured_at
        ) as spend,
        sum(events.amount) filter (where events.event_type = 'purchase') as accounting_spend
    from horizons
    inner join events
        on
            horizons.customer_id = events.customer_id
            and events.occurred_at >= horizons.decided_at
            and events.occurred_at < horizons.accounting_until
            and events.available_at < horizons.closed_at
    group by horizons.decision_id

),

-- Only redemptions of this decision's own offer are its cost.
redemptions as (

    select
        horizons.decision_id,
        sum(events.amount) filter (
            where events.occurred_at < horizons.learning_until
            and events.available_at < horizons.matured_at
        ) as redemption_cost,
        sum(events.amount) as accounting_redemption_cost
    from horizons
    inner join events
        on
            horizons.decision_id = events.decision_id
            and events.event_type = 'redemption'
            and events.occurred_at >= horizons.decided_at
            and events.occurred_at < horizons.accounting_until
            and events.available_at < horizons.closed_at
    group by horizons.decision_id

),

measured as (

    select
        horizons.decision_id,
        horizons.customer_id,
        horizons.decision_date,
        horizons.delivered_date,
        cast(
            {{ dbt.dateadd('day', var('learning_horizon_days') + var('settlement_days'), 'horizons.decision_date') }}
            as date
        ) as matured_date,
        cast(
            {{ dbt.dateadd('day', var('accounting_horizon_days') + var('settlement_days'), 'horizons.decision_date') }}
            as date
        ) as accounting_matured_date,
        coalesce(behaviour.visits, 0) as visits,
        coalesce(behaviour.purchases, 0) as purchases,
        coalesce(behaviour.spend, 0) as spend,
        coalesce(behaviour.accounting_spend, 0) as accounting_spend,
        coalesce(redemptions.redemption_cost, 0) as redemption_cost,
        coalesce(redemptions.accounting_redemption_cost, 0) as accounting_redemption_cost,
        coalesce(actions.message_cost, 0) as message_cost
    from horizons
    left join behaviour
        on horizons.decision_id = behaviour.decision_id
    left join redemptions
        on horizons.decision_id = redemptions.decision_id
    left join actions
        on horizons.realised_action_id = actions.action_id

)

select
    cast(decision_id as {{ dbt.type_string() }}) as decision_id,
    cast(customer_id as {{ dbt.type_string() }}) as customer_id,
    cast(decision_date as date) as decision_date,
    cast(delivered_date as date) as delivered_date,
    matured_date,
    cast(matured_date <= cast('{{ var("as_of_date") }}' as date) as boolean) as is_matured,
    cast(accounting_matured_date <= cast('{{ var("as_of_date") }}' as date) as boolean)
        as is_accounting_matured,
    cast(visits as bigint) as visits,
    cast(purchases as bigint) as purchases,
    cast(spend as double) as spend,
    cast(redemption_cost as double) as redemption_cost,
    cast(message_cost as double) as message_cost,
    cast(spend * {{ var('margin') }} as double) as value,
    cast(redemption_cost + message_cost as double) as cost,
    cast(accounting_spend as double) as accounting_spend,
    cast(accounting_spend * {{ var('margin') }} as double) as accounting_value,
    cast(accounting_redemption_cost + message_cost as double) as accounting_cost
from measured
