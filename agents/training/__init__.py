"""How the demonstration models were made: generator, training, export, evaluation."""
