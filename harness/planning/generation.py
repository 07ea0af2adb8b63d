"""The options of a run that say what its models are asked to answer, and how answers are sampled."""

GENERATION = ("generate", "samples", "temperature", "top_p", "max_new_tokens")
