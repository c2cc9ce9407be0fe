"""Services for all other packages: atomic files, devices, memory, gradients, loggers and text.

Nothing here depends on images or explanations; import the modules directly.
"""
