with spine as (

    select * from {{ ref('int_decision_spine') }}

),

contactability as (

    select * from {{ ref('stg_contactability') }}

),

latest as (

    select
        spine.customer_id,
        spine.decision_date,
        contactability.channel,
        contactability.is_allowed,
        row_number() over (
            partition by spine.customer_id, spine.decision_date, contactability.channel
            order by contactability.valid_from desc, contactability.delivered_date desc
        ) as version_rank
    from spine
    inner join contactability
        on
            spine.customer_id = contactability.customer_id
            and contactability.valid_from < spine.decision_at
            and contactability.delivered_date <= spine.decision_date

)

select
    customer_id,
    decision_date,
    {{ join_texts('channel') }} as contactable_channels
from latest
where version_rank = 1 and is_allowed
group by customer_id, decision_date
