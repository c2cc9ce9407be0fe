"""Tests of saliency_vae."""
