"""Roles of methods, and of their uncertainties, in a comparison."""

from enum import StrEnum

EXPLAINER = "explainer"  # name of the method that is evaluated: the posterior mean of the explainer
REFINED = "refined"  # the same, refined


class Role(StrEnum):
    """Role of a method or an uncertainty in a comparison.

    Attributes:
        EXPLAINER: An explainer of this package: the evaluated one, or a further one beside it.
        RIVAL: A method to compare the explainer with.
        CONTROL: A map that does not depend on the classifier, or a blurred rival; any method must
            beat it. As an uncertainty: one that needs no explainer of this package.
        ORACLE: A method that knows the true mask: an upper bound, not a rival.
    """

    EXPLAINER = "explainer"
    RIVAL = "rival"
    CONTROL = "control"
    ORACLE = "oracle"
