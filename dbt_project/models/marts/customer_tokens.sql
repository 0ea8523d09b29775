{{
    config(
        pre_hook="{{ replace_rows(\"built_for_date between cast('\" ~ var('start_date') ~ \"' as date) and cast('\" ~ var('end_date') ~ \"' as date)\") }}"
    )
}}

with events as (

    select * from {{ ref('stg_events') }}
    where
        item is not null
        and item != ''
        and delivered_date between cast('{{ var("start_date") }}' as date)
        and cast('{{ var("end_date") }}' as date)

)

select
    cast(customer_id as {{ dbt.type_string() }}) as customer_id,
    cast(delivered_date as date) as decision_date,
    cast(delivered_date as date) as built_for_date,
    cast(event_type as {{ dbt.type_string() }}) as kind,
    cast(item as {{ dbt.type_string() }}) as item,
    cast(available_at as timestamp) as available_at,
    cast(count(*) as bigint) as n_events
from events
group by customer_id, delivered_date, event_type, item, available_at
