"""What handlers import of Hugging Face's inference toolkit, where it is not installed."""
