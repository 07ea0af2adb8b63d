"""What authors of losses use: list, show, catalogue, report card, scaffold."""
