"""Where traces come from, besides models: procedures and files."""
