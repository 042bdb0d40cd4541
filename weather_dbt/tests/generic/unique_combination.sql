{#
    Fails for each combination of the columns that more than one row has, if one of the rows is of fresh loads
    (macros/tests.sql); the others can be of any age, so the model is given without `where`.
#}
{% test unique_combination(model, columns) %}

select
    {{ prefixed('everything', columns) }},
    count(*) as occurrences
from {{ model }} as everything
inner join (
    select distinct {{ columns | join(', ') }}
    from {{ model }}
    where {{ fresh_loads(model) }}
) as fresh on {{ same('everything', 'fresh', columns) }}
group by {{ prefixed('everything', columns) }}
having count(*) > 1

{% endtest %}
