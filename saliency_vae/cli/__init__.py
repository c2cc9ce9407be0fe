"""Commands: their schemas, the check of every setting, sweeps and the run's directory.

Nothing here loads torch before a command starts its work.
"""
