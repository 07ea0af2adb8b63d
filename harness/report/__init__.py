"""A paper in a command: run folders -> tables, figures, sentences and references for LaTeX and Markdown. No torch."""
