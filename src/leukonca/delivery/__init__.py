"""Delivery: the trained models that come with the package, and their cards."""

__all__: list[str] = []
