"""The parts that methods, and their uncertainties, play in a comparison."""

from enum import StrEnum

EXPLAINER = "explainer"  # name of the method that is evaluated: the posterior mean of the explainer
REFINED = "refined"  # the same, refined


class Role(StrEnum):
    """Part that a method or an uncertainty plays.

    Attributes:
        EXPLAINER: An explainer of this package: the evaluated one, or a further one beside it.
        RIVAL: A method to compare the explainer with.
        CONTROL: A map that does not depend on the classifier, or a blurred rival: what any method
            must beat. Of uncertainties, one that needs no explainer of this package.
        ORACLE: A method that knows the true mask: an upper bound, no rival.
    """

    EXPLAINER = "explainer"
    RIVAL = "rival"
    CONTROL = "control"
    ORACLE = "oracle"
