"""The images, built and run for real. All tests here are slow and need Podman."""
