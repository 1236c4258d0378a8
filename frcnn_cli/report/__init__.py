"""Numbers and boxes as plots and pages for people."""
