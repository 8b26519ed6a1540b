"""Random PTX programs, run by the software GPU and by a plain interpreter of its own."""
