"""Why a cell was given its name: reasons down to the pixel, and measures of how true they are."""

__all__: list[str] = []
