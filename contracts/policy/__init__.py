"""Policy: one Rego bundle, asked in process or by a real OPA server, always through `engine`."""
