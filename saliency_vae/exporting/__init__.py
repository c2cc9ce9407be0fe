"""Explainers as one graph that runs without this package: ONNX and torch.export.

What is written is compared with PyTorch first.
"""
