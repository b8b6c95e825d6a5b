"""What happened, on disk: a study's files, and who may write them."""
