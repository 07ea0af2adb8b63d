"""The files of a run: records, tables, manifest, folders. Imports no torch."""
