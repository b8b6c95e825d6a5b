"""What a study's folder says."""
