"""What the uncertainty is worth: of pixels, of images, and on corrupted images.

Each number stands beside that of a control.
"""
