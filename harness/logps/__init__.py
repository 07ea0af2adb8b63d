"""Hidden states -> log-probs of the response tokens: the code in which training and scoring spend their time."""
