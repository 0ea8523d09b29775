{{ config(materialized='table') }}

with kpi as (

    select
        *,
        row_number() over (partition by day order by delivered_date desc) as version_rank
    from {{ ref('stg_media_kpi') }}

),

sales as (

    select
        cast(occurred_at as date) as day,
        sum(amount) as programme_sales
    from {{ ref('stg_events') }}
    where event_type = 'purchase'
    group by cast(occurred_at as date)

),

sign_ups as (

    select
        day,
        count(*) as signed_up
    from (
        select min(cast(signed_up_at as date)) as day
        from {{ ref('stg_customers') }}
        group by customer_id
    )
    group by day

),

days as (

    select day from kpi
    union
    select day from sales

),

first_sale as (

    select min(day) as first_day from sales

),

known as (

    select
        days.day,
        sum(sign_ups.signed_up) as customers
    from days
    cross join first_sale
    inner join sign_ups
        on days.day >= sign_ups.day
    where days.day >= first_sale.first_day
    group by days.day

)

select
    cast(days.day as date) as day,
    cast(kpi.kpi as double) as kpi,
    cast(coalesce(sales.programme_sales, 0) as double) as programme_sales,
    cast(coalesce(known.customers, 0) as bigint) as customers
from days
left join kpi
    on days.day = kpi.day and kpi.version_rank = 1
left join sales
    on days.day = sales.day
left join known
    on days.day = known.day
