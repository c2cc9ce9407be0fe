"""Training an explainer with Lightning: the module, its callbacks, checkpoints and how a run goes on.

The training step of :class:`VariationalSaliency` reads as Figure 1 of the paper.
"""
