"""The page that the Hugging Face Hub shows for an explainer."""

import html
import re
from collections.abc import Mapping
from typing import Any

from saliency_vae.models.config import ExplainerConfig
from saliency_vae.models.undertrained import undertrained
from saliency_vae.runtime.text import one_line

FIGURE = "explanations.png"  # beside the card, if there is one

_MARKDOWN = re.compile(r"[\\`*_{}\[\]()#|~!$@:]")  # what could start markup or a link in a line

_CARD = """\
---
library_name: saliency_vae
license: apache-2.0
tags:
- saliency
- explainability
- uncertainty
---
# {name}: an explainer of {classifier}

Where did an image classifier look, and how sure is that explanation? {how} this
network gives a Gaussian distribution over the saliency map of an image (variational saliency maps).
{figure}
## What it explains, and how

| | |
|---|---|
{facts}

## Metrics

{metrics}
{warning}
Loss and reconstruction are in nats per image, with `distance=total_variation` reconstruction is
from 0 to 1; KL divergences are in nats per pixel. `agreement_10` is the share of images whose
decision stays as it was when only the top 10 % of pixels are kept.
`insertion` is over the baseline image of the training, `insertion_gain` what it has beyond that of
the classifier's gradient alone, with the ends of its interval (95 %).

## How to use it

```python
from saliency_vae import load_explainer

explainer = load_explainer("OWNER/NAME"{given})  # this repository, or a directory
{attach}posterior = explainer(images)  # float (B, 3, H, W) in [0, 1], not normalised
posterior.mean, posterior.stddev  # (B, H, W)
posterior.inclusion_probability(fraction=0.1)  # (B, H, W)
{call}```

```
python -m saliency_vae.explain explainer=OWNER/NAME {built}images=DIR output_dir=OUT
```

## Limits

{scope}- It shows what a classifier reacts to, not what is true of the image.
- `stddev` is not confidence: it is the spread of a pixel's saliency, and tends to be *small* where
  the classifier looks and to stay at the prior's value elsewhere. `inclusion_probability` is the
  probability that a pixel is among the most salient ones.
{confidence}
## Citation

```bibtex
@misc{{variational_saliency_maps,
  title = {{Variational saliency maps for explaining model's behavior}},
  note = {{ICLR 2021 submission}},
  url = {{https://openreview.net/forum?id=x2ywTOFM4xt}}
}}
```
"""

_OWN = """\
- It explains the classifier above, with exactly these weights (see the SHA-256), and no other.
- It was trained on the data above; on other images its maps may mean nothing.
"""
_ANY = """\
- It explains any classifier that has gradients, for any class (`target`), and comes with none.
- It was trained on the data above, for a few classifiers; how good its maps are for another one,
  `python -m saliency_vae.evaluate` measures.
"""
_ATTACH = """\
explainer.attach_classifier(classifier)  # your own; known ones are built as recorded
"""

_ESTIMATED = """\
- `confidence` is the estimated probability that the classifier's decision stays when only the most
  salient 5 % of the pixels are kept over a blur. A small network estimates it, calibrated on
  validation images; for images that are `out_of_depth`, unlike those, it is a guess. It is about
  the explanation, not about whether the decision is right.
"""
_MEASURED = """\
- `confidence` is the probability of what is explained when only the most salient 5 % of the pixels
  are kept over a blur, as the classifier says. It is about the explanation, not about whether the
  decision is right.
"""


def model_card(
    config: ExplainerConfig,
    *,
    figure: bool = False,
    conditional: bool = False,
    universal: bool = False,
) -> str:
    """Describe an explainer: Markdown under a YAML header.

    Text of the configuration is escaped, so that none of it acts as Markdown or HTML.

    Args:
        config: Configuration of the explainer; missing values are left out.
        figure: Whether to show the file :data:`FIGURE`, which lies beside the card.
        conditional: Whether its encoder is conditioned on the classifier.
        universal: Whether it explains any classifier.
    """
    known = None if universal else config.classifier
    warning = undertrained(config.metrics)
    subject = "any image classifier" if universal else "an unnamed classifier"
    estimated = config.confidence is not None
    confidence = _ESTIMATED if estimated else _MEASURED if conditional else ""
    return _CARD.format(
        name=_text(config.name),
        how="After one pass forward and back through it," if conditional else "In one forward pass",
        attach=_ATTACH if conditional and not universal else "",
        given=", classifier" if universal else "",
        built="classifier=torchvision classifier.name=resnet50 " if universal else "",
        scope=_ANY if universal else _OWN,
        call="posterior.confidence  # (B,)\n" if confidence else "",
        confidence=confidence,
        classifier=_text(known.name if known else subject),
        figure=f"\n![Explanations of images held out of training]({FIGURE})\n" if figure else "",
        facts=_facts_table(config),
        metrics=_metrics_table(config.metrics),
        warning="" if warning is None else f"\n**{_text(warning)}**\n",
    )


def _facts_table(config: ExplainerConfig) -> str:
    """Table with one row for each fact in the configuration."""
    classifier = config.classifier
    facts = {
        "Classifier": classifier and classifier.name,
        "Its weights": classifier and classifier.weights,
        "SHA-256 of its parameters": classifier and classifier.sha256,
        "Data": config.data,
        "Image size": config.image_size and list(config.image_size),
        "Encoder": config.encoder,
        "Prior": config.prior,
        "Posterior": config.posterior,
        "Command": config.command,
        "Version of saliency_vae": config.version,
    }
    return "\n".join(
        f"| {name} | {_text(as_call(value))} |"
        for name, value in facts.items()
        if value not in (None, {})
    )


def _metrics_table(metrics: dict[str, float]) -> str:
    """Table with one row per metric and one column per split, for names such as ``val/loss``."""
    if not metrics:
        return "None are recorded."
    splits = sorted({key.partition("/")[0] for key in metrics}, reverse=True)
    names = dict.fromkeys(key.partition("/")[2] for key in metrics)
    rows = [["", *splits]]
    rows += [
        [name, *(_number(metrics.get(f"{split}/{name}")) for split in splits)] for name in names
    ]
    header, *body = (f"| {' | '.join(map(_text, row))} |" for row in rows)
    return "\n".join([header, "|---" * (1 + len(splits)) + "|", *body])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def as_call(value: Any) -> str:
    """Write a Hydra node as a call, without None or False: ``UNet(channels=[8, 24])``."""
    if isinstance(value, Mapping):
        given = {k: v for k, v in value.items() if k[0] != "_" and v is not None and v is not False}
        if "_target_" not in value:
            return f"{{{', '.join(f'{k}: {as_call(v)}' for k, v in given.items())}}}"
        name = str(value["_target_"]).rpartition(".")[2]
        return f"{name}({', '.join(f'{k}={as_call(v)}' for k, v in given.items())})"
    if isinstance(value, list):
        return f"[{', '.join(map(as_call, value))}]"
    return str(value)


def _text(value: Any) -> str:
    """Write a value on one line so that Markdown and HTML show it literally."""
    line = one_line(value)
    return html.escape(_MARKDOWN.sub(r"\\\g<0>", line), quote=False)
