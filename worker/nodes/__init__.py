"""What every node of a worker has: its resources, claimed work, removal of files, and what features add."""
