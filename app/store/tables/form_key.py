"""The key of the tokens in forms."""

from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base


class FormKeyRow(Base):
    """32 random bytes that all web processes of an installation share. The migration that creates the table writes its
    only row."""

    __tablename__ = "form_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[bytes]
