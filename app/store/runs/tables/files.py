"""What tables of files have in common that were made of a run after it."""

from collections.abc import Sequence

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.models.exports import ExportedFile
from app.store.database.owned import Asked


class RunFiles(Asked):
    """Files in a run's folder, beside its artifacts. They go with the run, and are charged to the user who asked; once
    the run is given away, to its owner."""

    run_id: Mapped[int]
    predicted_bytes: Mapped[int] = mapped_column(BigInteger)
    """Predicted bytes of the weights."""
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")

    @property
    def files(self) -> Sequence[ExportedFile]:
        """None before they are made."""
        raise NotImplementedError
