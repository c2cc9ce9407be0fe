"""Training an explainer with Lightning: the module, its callbacks, checkpoints and resuming.

:meth:`saliency_vae.training.module.VariationalSaliency.step` follows Figure 1 of the paper.
"""
