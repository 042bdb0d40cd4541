"""Tests of what brings the platform to a cluster."""
