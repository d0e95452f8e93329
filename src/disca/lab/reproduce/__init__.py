"""The paper's experiments in miniature, each from its recipes: train, calibrate, sample, and write what came out."""
