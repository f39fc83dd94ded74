"""Pre-training: masked LM, with next sentences or the order of sentences."""
