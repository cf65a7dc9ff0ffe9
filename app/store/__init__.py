"""The database and the files: tables, queries, the session and its one commit."""
