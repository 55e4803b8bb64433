"""Models as they are opened, adapted with LoRA, shared among processes and handed on, weight by weight."""
