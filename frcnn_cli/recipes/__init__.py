"""Every number that training and detection depend on, in files: the paper's, and today's practice."""
