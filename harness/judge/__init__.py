"""Judges: the simulator's truth, endpoints in the manner of OpenAI, reward models; their prompts and what they said."""
