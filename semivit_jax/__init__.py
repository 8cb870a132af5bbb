"""Vision Transformers trained from few labels and many unlabeled images."""
