"""A page in the browser: drop a photograph, and see where a classifier looked.

What is computed stands in ``answers.py``, what is drawn in ``pictures.py``; ``page.py`` puts
widgets of Gradio around both. Import the modules directly, so that --help does not load torch.
"""
