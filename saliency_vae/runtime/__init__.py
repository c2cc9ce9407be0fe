"""Services to every other package: whole files, devices, memory, gradients, loggers and text.

Nothing here depends on images or explanations; import the modules directly.
"""
