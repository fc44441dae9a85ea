"""A gradient-boosted regression in XGBoost's own format, served without any code of its own."""
