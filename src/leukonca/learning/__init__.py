"""Training: pictures prepared once, augmentation, losses, the Lightning task, runs and model files."""

__all__: list[str] = []
