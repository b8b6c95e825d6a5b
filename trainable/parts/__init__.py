"""The toolbox: what a recipe is put together from."""
