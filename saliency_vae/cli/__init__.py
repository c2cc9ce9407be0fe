"""The command line: the schemas of the commands, the checks of every setting, sweeps, errors.

Nothing here loads torch before a command starts its work; import the modules directly.
"""
