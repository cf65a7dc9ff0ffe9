"""Forms made from pydantic models."""
