"""Reading what users bring: files of rows into columns, columns into a dataset. Knows the domain and Arrow only."""
