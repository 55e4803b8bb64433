"""The engine that samples from vLLM servers: started by the run, or of the user's own."""
