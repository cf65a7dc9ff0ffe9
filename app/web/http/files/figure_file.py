"""A figure as a file: SVG and PNG in the colours of either theme, and its numbers as CSV."""

from typing import Literal

from fastapi.responses import Response

from app.web.figures.drawing import render
from app.web.figures.drawing.render import Theme
from app.web.figures.figure import Figure
from app.web.http.files.csv_file import csv_file
from app.web.http.middleware.security import NOTHING

Ending = Literal["svg", "png", "csv"]


def figure_file(figure: Figure, ending: Ending, theme: Theme, stem: str) -> Response:
    """A figure in one of the formats; its file name begins with `stem`. Raises NotFound if there is nothing to draw."""
    name = f"{stem}-{figure.name}.{ending}"
    if ending == "csv":
        return csv_file(figure.numbers.csv_rows, name)
    headers = {"Content-Disposition": f'inline; filename="{name}"', "Cache-Control": "no-cache"}
    if ending == "svg":
        headers["Content-Security-Policy"] = NOTHING  # a picture that a browser opens as a document
        return Response(render.svg_file(figure.chart(), theme), media_type="image/svg+xml", headers=headers)
    return Response(render.png(figure.chart(), theme), media_type="image/png", headers=headers)
