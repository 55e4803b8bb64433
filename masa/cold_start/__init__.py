"""Cold start: a policy that cannot write meta-predictions is taught their form on its own measured solutions."""
