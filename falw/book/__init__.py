"""What draws the pages: figures, and explorers with sliders."""
