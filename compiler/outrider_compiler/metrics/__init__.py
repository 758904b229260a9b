"""How well a model does its task: figures with 95 % intervals beside the no-skill baseline, and paired differences.

task = metrics.classification(("rest", "walk"))
task.figures(probabilities, y)["balanced_accuracy"].low
task.drop(source, candidate, y).upper
"""

from outrider_compiler.metrics.anomaly import Anomaly
from outrider_compiler.metrics.classification import Classification
from outrider_compiler.metrics.figure import Difference, Figure
from outrider_compiler.metrics.regression import Regression
from outrider_compiler.metrics.task import Task

__all__ = ["Anomaly", "Classification", "Difference", "Figure", "Regression", "Task"]
