{{
    config(
        pre_hook="{{ replace_rows(\"built_for_date between cast('\" ~ var('start_date') ~ \"' as date) and cast('\" ~ var('end_date') ~ \"' as date)\") }}"
    )
}}

with features as (

    select * from {{ ref('customer_features') }}
    where
        built_for_date between cast('{{ var("start_date") }}' as date)
        and cast('{{ var("end_date") }}' as date)

),

activity as (

    select * from {{ ref('int_customer_activity') }}

),

offers as (

    select * from {{ ref('int_customer_offers') }}

)

select
    cast(features.customer_id as {{ dbt.type_string() }}) as customer_id,
    cast(features.decision_date as date) as decision_date,
    cast(features.built_for_date as date) as built_for_date,
    cast(features.is_holdout as boolean) as is_holdout,
    cast(features.is_evaluation as boolean) as is_evaluation,
    cast(features.lifecycle as {{ dbt.type_string() }}) as lifecycle,
    cast(features.attributes as {{ dbt.type_string() }}) as attributes,
    cast(features.tenure_days as bigint) as tenure_days,
    cast(features.days_since_visit as bigint) as days_since_visit,
    cast(features.days_since_purchase as bigint) as days_since_purchase,
    cast(features.visits_90d as bigint) as visits_90d,
    cast(features.purchases_90d as bigint) as purchases_90d,
    cast(features.spend_90d as double) as spend_90d,
    cast(coalesce(activity.visit_days, 0) as bigint) as visit_days,
    cast(coalesce(activity.purchase_days, 0) as bigint) as purchase_days,
    cast(coalesce(activity.redemption_days, 0) as bigint) as redemption_days,
    cast(coalesce(offers.offer_days, 0) as bigint) as offer_days
from features
left join activity
    on
        features.customer_id = activity.customer_id
        and features.decision_date = activity.decision_date
left join offers
    on
        features.customer_id = offers.customer_id
        and features.decision_date = offers.decision_date
