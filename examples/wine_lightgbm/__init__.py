"""A LightGBM classifier saved as text, served without any code of its own."""
