"""Explaining image files: reading them, explaining them in batches, writing what was found.

One broken file never stops the others.
"""
