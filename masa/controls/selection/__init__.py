"""Methods that say which problems are worth solving; `selector` is their interface, `factory` chooses one."""
