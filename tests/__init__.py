"""Tests of finn, and what all of them that draw examples have in common."""

from hypothesis import HealthCheck, settings

# How long an example takes says more of what else the computer does than of finn.
settings.register_profile("finn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("finn")
