"""A Hugging Face text classifier, served as the pipeline of its task."""
