"""What may be tried: the searched fields, their ranges and conditions."""
