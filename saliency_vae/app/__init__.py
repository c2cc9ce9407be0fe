"""A page in the browser: drop a photograph, and see where a classifier looked.

``answers.py`` computes, ``pictures.py`` draws, and ``page.py`` puts Gradio widgets around both.
Import the modules directly, so that --help does not load torch.
"""
