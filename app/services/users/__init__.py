"""Users and what authenticates them: passwords, browser sessions, API tokens, links that work once."""
