"""A Databricks SQL warehouse for tests, on this machine: the real connector and the real dbt adapter talk to it.

``server`` runs in an environment of its own (``environment`` makes it): Databricks' protocol, TCLIService in Thrift
over HTTP, in front of pysail, a Spark SQL engine with real Delta tables. ``stand_in`` starts it and sets its faults.

It is not Databricks: what is not proved by it stands in the README's table of engines.
"""
