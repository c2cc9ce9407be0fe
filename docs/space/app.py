"""The page as a Hugging Face Space."""

from saliency_vae.app.serve import launch, make_page
from saliency_vae.cli.schemas import AppConfig

CLASSIFIER = {
    "_target_": "saliency_vae.classifiers.builders.huggingface_classifier",
    "name": "microsoft/resnet-50",
}

config = AppConfig(classifier=CLASSIFIER, host="0.0.0.0", port=7860)
launch(make_page(config), config).block_thread()
