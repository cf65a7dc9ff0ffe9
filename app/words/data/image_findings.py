"""The sentences of findings about images."""

from app.domain.data.findings import FindingCode
from app.words.data.tag_findings import Template
from app.words.i18n import marked, marked_plural

COMPARE_NEAR_DUPLICATES = marked(
    "Compare the pairs below: if they are duplicates, remove them from the file or split the rows differently."
)
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
NEAR_LEAK_OF_IMAGES = Template(
    marked_plural(
        "%(num)s image of test or validation is a near-duplicate of a train image (their difference hashes differ in "
        "at most %(limit)s of %(bits)s bits, and their thumbnails have a correlation of at least %(correlation)s).",
        "%(num)s images of test or validation are near-duplicates of train images (their difference hashes differ in "
        "at most %(limit)s of %(bits)s bits, and their thumbnails have a correlation of at least %(correlation)s).",
    ),
    COMPARE_NEAR_DUPLICATES,
)
NEAR_LEAK_IN_SAMPLE_OF_IMAGES = Template(
    marked_plural(
        "%(num)s of %(held_out)s sampled images of test or validation is a near-duplicate of one of %(trained)s "
        "sampled train images (their difference hashes differ in at most %(limit)s of %(bits)s bits, and their "
        "thumbnails have a correlation of at least %(correlation)s).",
        "%(num)s of %(held_out)s sampled images of test or validation are near-duplicates of one of %(trained)s "
        "sampled train images (their difference hashes differ in at most %(limit)s of %(bits)s bits, and their "
        "thumbnails have a correlation of at least %(correlation)s).",
    ),
    COMPARE_NEAR_DUPLICATES,
)
