"""Studies: a question, a hypothesis written before, the run that answers it, and its findings with intervals."""
