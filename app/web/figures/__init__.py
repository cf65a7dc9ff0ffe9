"""Figures: from a study or a run to charts with a takeaway, a note on how to read them, and their numbers."""

from app.web.figures.figure import Column, Drawn, Figure, Key, Table, csv_rows, drawn
from app.web.figures.run import RunEvidence, run_figures
from app.web.figures.study import StudyEvidence, study_figures

__all__ = [
    "Column",
    "Drawn",
    "Figure",
    "Key",
    "RunEvidence",
    "StudyEvidence",
    "Table",
    "csv_rows",
    "drawn",
    "run_figures",
    "study_figures",
]
