"""The automaton: rule, firing, pooling, head and engines. No data, no training, no files."""

__all__: list[str] = []
