"""What several frameworks have in common, or is too long for the file of one."""
