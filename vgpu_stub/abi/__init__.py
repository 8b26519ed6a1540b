"""The guest/host ABI: `schema` is the source, `generated` what the host uses at run time."""
