"""Export formats in words."""

from app.domain.models.exports import ExportFormat
from app.web.i18n import gettext as _
from app.web.i18n import marked

FORMAT_TITLES = {
    ExportFormat.ADAPTER: marked("Adapter"),
    ExportFormat.MERGED_FLOAT32: marked("Merged, float32"),
    ExportFormat.MERGED_BFLOAT16: marked("Merged, bfloat16"),
}
FORMAT_NOTES = {
    ExportFormat.ADAPTER: marked("the trained tensors as the run saved them"),
    ExportFormat.MERGED_FLOAT32: marked("whole model for transformers, safetensors"),
    ExportFormat.MERGED_BFLOAT16: marked("whole model, merge computed in float32"),
}


def format_title(form: ExportFormat) -> str:
    """A format's name: `Merged, bfloat16`."""
    return _(FORMAT_TITLES[form])


def format_note(form: ExportFormat) -> str:
    """What a format holds."""
    return _(FORMAT_NOTES[form])


FILTERS = (format_title, format_note)
