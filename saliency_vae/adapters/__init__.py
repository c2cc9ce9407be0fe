"""The explainer behind other packages' interfaces: Captum, pytorch-grad-cam and Quantus.

Each module needs its package, an optional extra.
"""
