"""How sure a number is; knows no files."""
