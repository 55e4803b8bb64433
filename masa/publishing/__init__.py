"""Publishing: a run's policy on the Hugging Face hub, with a model card made from the run directory."""
