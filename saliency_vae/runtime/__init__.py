"""What every part of the system stands on: whole files, devices, memory, loggers and text.

Nothing here knows of images or explanations.
"""
