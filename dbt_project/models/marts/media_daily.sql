{{ config(materialized='table') }}

with media as (

    select
        *,
        row_number() over (partition by day, channel order by delivered_date desc) as version_rank
    from {{ ref('stg_media_spend') }}

),

messages as (

    select
        decisions.decision_date as day,
        actions.channel,
        sum(outcomes.cost) as spend,
        count(*) as impressions
    from {{ ref('logged_decisions') }} as decisions
    inner join {{ ref('realised_outcomes') }} as outcomes
        on decisions.decision_id = outcomes.decision_id
    inner join {{ ref('action_catalogue') }} as actions
        on decisions.realised_action_id = actions.action_id
    where actions.channel is not null
    group by decisions.decision_date, actions.channel

),

both_kinds as (

    select
        day,
        channel,
        spend,
        impressions,
        false as is_message
    from media
    where version_rank = 1
    union all
    select
        day,
        channel,
        spend,
        impressions,
        true as is_message
    from messages

)

select
    cast(day as date) as day,
    cast(channel as {{ dbt.type_string() }}) as channel,
    cast(is_message as boolean) as is_message,
    -- Sums of binary fractions depend on the order of rows; to the cent they don't.
    cast(round(spend, 2) as double) as spend,
    cast(impressions as double) as impressions
from both_kinds
