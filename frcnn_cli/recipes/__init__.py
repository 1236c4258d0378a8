"""Every number that training and detection depend on: sections, the recipe, TOML files."""
