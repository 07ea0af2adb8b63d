"""One `transformers.Trainer` subclass for every loss, and what it reads and writes."""
