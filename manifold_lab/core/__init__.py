"""What everything rests on: specs and keys, random streams, errors, files, provenance, statistics, options."""
