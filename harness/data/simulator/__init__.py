"""The embedded data set: a simulator of annotated answers with known quality."""
