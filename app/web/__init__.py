"""The web: pages for people, JSON for programs. It asks services and shows what they answer."""
