"""What an evaluation found, for people: the page, its charts, the terminal and W&B.

Nothing is measured here.
"""
