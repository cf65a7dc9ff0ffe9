"""Pages for people, one noun a package: routes, context, text and form."""
