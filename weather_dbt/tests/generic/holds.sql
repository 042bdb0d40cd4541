{# Fails for each row in which the condition is false; a condition on a missing value holds. #}
{% test holds(model, condition) %}

select *
from {{ model }}
where not ({{ condition }})

{% endtest %}
