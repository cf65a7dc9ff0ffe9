"""Readers of users' files: each yields batches of rows, column by column. They know the domain and Arrow only."""
