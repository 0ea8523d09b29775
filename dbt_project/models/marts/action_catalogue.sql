{{ config(materialized='table') }}

with actions as (

    select * from {{ ref('stg_actions') }}
    where surface is null or {{ is_own_surface('surface') }}

),

ranked as (

    select
        *,
        row_number() over (partition by action_id order by delivered_date desc) as version_rank
    from actions

)

select
    cast(action_id as {{ dbt.type_string() }}) as action_id,
    cast(family as {{ dbt.type_string() }}) as family,
    cast(channel as {{ dbt.type_string() }}) as channel,
    cast(face_value as double) as face_value,
    cast(message_cost as double) as message_cost,
    cast(is_control as boolean) as is_control
from ranked
where version_rank = 1
