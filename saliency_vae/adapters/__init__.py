"""An explainer in other tools: Captum, Quantus, and code written for pytorch-grad-cam."""
