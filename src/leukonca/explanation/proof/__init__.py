"""How true the explanations of a model are: measured part by part, in pieces that survive an interruption."""

__all__: list[str] = []
