"""The version of leukonca, read by the build and written into every model."""

__version__ = "0.1.0"
