"""What is measured of masked rows: classes, bounds, risks and losses; of a release about to leave, or of any file."""
