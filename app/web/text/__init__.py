"""What pages, API and terminal say."""
