"""Every picture medseg draws: of cases, of scores, of a training."""
