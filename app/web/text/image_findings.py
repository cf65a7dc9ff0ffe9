"""The sentences of findings about images."""

from app.domain.data.findings import FindingCode
from app.web.i18n import marked, marked_plural
from app.web.text.tag_findings import Template

IMAGE_FINDINGS: dict[FindingCode, Template] = {
    "broken-images": Template(
        marked_plural(
            "%(num)s row was left out: Vezna cannot decode the image in its column %(column)s, or it has more than 50 "
            "megapixels or 32 MiB (row %(row)s).",
            "%(num)s rows were left out: Vezna cannot decode the images in their column %(column)s, or they have more "
            "than 50 megapixels or 32 MiB (first: row %(row)s).",
        ),
        marked("Save them as PNG or JPEG; the examples give the reasons."),
    ),
    "skipped-files": Template(
        marked_plural(
            "%(num)s file of the archive was skipped, because Vezna does not read its format: %(endings)s.",
            "%(num)s files of the archive were skipped, because Vezna does not read their formats: %(endings)s.",
        ),
        marked("If there are images among them, save them as JPEG or PNG and upload the archive again."),
    ),
}
