"""Start a training from the encoder of an explainer that is trained already."""

from saliency_vae.models import Explainer, load_explainer


def start_from(explainer: Explainer, source: str) -> None:
    """Give an explainer the trained encoder of another one, whose batch norms are folded.

    Args:
        explainer: Explainer to be trained.
        source: ``universal``, a directory, or ``owner/name`` on the Hugging Face Hub.

    Raises:
        ValueError: If there is no such explainer, or its encoder is of another kind or size.
    """
    trained = load_explainer(source)
    if trained.config.encoder != explainer.config.encoder:
        raise ValueError(
            f"Expected the encoder of init={source}, {trained.config.encoder}. "
            f"Found {explainer.config.encoder}."
        )
    explainer.encoder = trained.encoder.train().requires_grad_(True)
