"""Fresh seeds, the test images, the winner."""
