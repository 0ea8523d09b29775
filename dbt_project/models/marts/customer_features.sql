{{
    config(
        pre_hook="{{ replace_rows(\"built_for_date between cast('\" ~ var('start_date') ~ \"' as date) and cast('\" ~ var('end_date') ~ \"' as date)\") }}"
    )
}}

with spine as (

    select * from {{ ref('int_decision_spine') }}

),

activity as (

    select * from {{ ref('int_customer_activity') }}

),

offers as (

    select * from {{ ref('int_customer_offers') }}

),

channels as (

    select * from {{ ref('int_customer_channels') }}

),

measured as (

    select
        spine.*,
        {{ dbt.datediff('spine.signed_up_at', 'spine.decision_at', 'day') }} as tenure_days,
        {{ dbt.datediff('activity.last_visit_at', 'spine.decision_at', 'day') }} as days_since_visit,
        {{ dbt.datediff('activity.last_purchase_at', 'spine.decision_at', 'day') }} as days_since_purchase,
        activity.visits_7d,
        activity.visits_28d,
        activity.visits_90d,
        activity.purchases_7d,
        activity.purchases_28d,
        activity.purchases_90d,
        activity.spend_7d,
        activity.spend_28d,
        activity.spend_90d,
        activity.redemptions_28d,
        offers.offers_28d,
        offers.other_offers_7d,
        channels.contactable_channels
    from spine
    left join activity
        on
            spine.customer_id = activity.customer_id
            and spine.decision_date = activity.decision_date
    left join offers
        on
            spine.customer_id = offers.customer_id
            and spine.decision_date = offers.decision_date
    left join channels
        on
            spine.customer_id = channels.customer_id
            and spine.decision_date = channels.decision_date

)

select
    cast(customer_id as {{ dbt.type_string() }}) as customer_id,
    cast(decision_date as date) as decision_date,
    cast(built_for_date as date) as built_for_date,
    cast(is_due as boolean) as is_due,
    cast(is_holdout as boolean) as is_holdout,
    cast(is_evaluation as boolean) as is_evaluation,
    cast({{ assign_lifecycle('tenure_days', 'days_since_purchase') }} as {{ dbt.type_string() }}) as lifecycle,
    cast(coalesce(contactable_channels, '') as {{ dbt.type_string() }}) as contactable_channels,
    cast(attributes as {{ dbt.type_string() }}) as attributes,
    cast(tenure_days as bigint) as tenure_days,
    cast(days_since_visit as bigint) as days_since_visit,
    cast(days_since_purchase as bigint) as days_since_purchase,
    cast(coalesce(visits_7d, 0) as bigint) as visits_7d,
    cast(coalesce(visits_28d, 0) as bigint) as visits_28d,
    cast(coalesce(visits_90d, 0) as bigint) as visits_90d,
    cast(coalesce(purchases_7d, 0) as bigint) as purchases_7d,
    cast(coalesce(purchases_28d, 0) as bigint) as purchases_28d,
    cast(coalesce(purchases_90d, 0) as bigint) as purchases_90d,
    cast(coalesce(spend_7d, 0) as double) as spend_7d,
    cast(coalesce(spend_28d, 0) as double) as spend_28d,
    cast(coalesce(spend_90d, 0) as double) as spend_90d,
    cast(coalesce(redemptions_28d, 0) as bigint) as redemptions_28d,
    cast(coalesce(offers_28d, 0) as bigint) as offers_28d,
    cast(coalesce(other_offers_7d, 0) as bigint) as other_offers_7d
from measured
