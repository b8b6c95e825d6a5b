"""How findings are shown: the page, its charts, the pictures."""
