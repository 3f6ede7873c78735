"""How good a model is, told honestly: measures with intervals, views across class sets, figures, reports."""

from __future__ import annotations

from leukonca.assessment.intervals import Estimate
from leukonca.assessment.metrics import ClassMetrics, Metrics, measure
from leukonca.assessment.prediction import Predictions
from leukonca.assessment.views import align

__all__ = ["ClassMetrics", "Estimate", "Metrics", "Predictions", "align", "measure"]
