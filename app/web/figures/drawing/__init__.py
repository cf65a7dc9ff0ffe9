"""What figures draw with: the theme, the renderer, and the charts that several figures share."""
