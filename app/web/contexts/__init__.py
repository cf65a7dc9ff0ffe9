"""What pages are made of: one frozen dataclass a page, one page a file."""
