"""Explainers behind the interfaces of other packages: Captum, pytorch-grad-cam and Quantus.

Import the module of the package you use; that for Captum needs Captum, an optional extra.
"""
