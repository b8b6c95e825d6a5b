"""Images: from their origin to what a trial may see."""
