"""What the project's upkeep is done with: generated files, and the test of its tests."""
