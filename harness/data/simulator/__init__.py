"""The embedded data set: simulated answers of known quality with simulated annotation scores."""
