"""Selection methods and controls of the user's own, by import path."""
