"""Explainers behind the interfaces of other packages: Captum, pytorch-grad-cam and Quantus.

Import the module for the package you use; the one for Captum needs Captum, an optional extra.
"""
