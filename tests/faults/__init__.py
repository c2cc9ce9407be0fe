"""Faults that are really made, and what is promised then."""
