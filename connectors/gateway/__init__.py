"""The department's gateway: who comes in, what is served and signed, what must not be forgotten, what is reported."""
