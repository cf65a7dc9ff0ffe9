"""Use cases, one noun a file. A service takes a session (it never commits) and raises `domain.errors`."""
