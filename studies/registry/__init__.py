"""Register, compare, promote and resolve model sets."""
