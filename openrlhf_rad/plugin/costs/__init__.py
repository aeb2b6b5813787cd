"""What answers are rated by, in training and in ``rad eval`` alike; a rating that fails stops the run."""
