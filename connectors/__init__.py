"""The gate: the department's sources, masking, measuring and Flight gateway; the consumer's pull and sinks."""
