"""A CatBoost regression with a column of text and named columns, served without any code."""
