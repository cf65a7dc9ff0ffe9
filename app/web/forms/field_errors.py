"""What is wrong with the fields of a page's form."""

from app.domain.errors import FieldError


class HasErrors:
    """A page context with errors, for the fields of its template."""

    errors: tuple[FieldError, ...]

    def errors_of(self, path: str) -> list[FieldError]:
        """What is wrong with one field."""
        return [error for error in self.errors if error.path == path]
