"""The consumer's side: fetch a release, verify it while reading, and keep it as a file or a frame."""
