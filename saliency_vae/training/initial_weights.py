"""Start training from the encoder of an explainer that is already trained."""

from saliency_vae.models import Explainer, load_explainer

# Encoder settings that do not affect its weights.
_FREE = ("copies", "output_stride", "edge_aware")


def start_from(explainer: Explainer, source: str) -> None:
    """Give an explainer the trained encoder of another one, with batch norms folded.

    Args:
        explainer: Explainer to be trained.
        source: ``universal``, a directory, or ``owner/name`` on the Hugging Face Hub.

    Raises:
        ValueError: If there is no such explainer, or its encoder is of another kind or size.
    """
    trained, wanted = load_explainer(source), explainer.config.encoder
    chosen = {name: wanted[name] for name in _FREE if name in wanted}
    if trained.config.encoder | chosen != wanted:
        advice = " experiment=fine_tune has the expected one." if source == "universal" else ""
        raise ValueError(
            f"Expected the encoder of init={source}, {trained.config.encoder}. Found {wanted}."
            f"{advice}"
        )
    for name, value in chosen.items():
        setattr(trained.encoder, name, value)
    explainer.encoder = trained.encoder.train().requires_grad_(True)
