"""Pages of the Lab: the questions that are due, a question, the files for Anki and for calendars."""
