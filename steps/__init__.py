"""One ZenML step a file: it hands a study function its inputs and reports what came out.

Steps publish outside ZenML's artifact store, where ZenML cannot see that a result is gone or that the code behind it
changed. So ZenML answers none from its cache: each step runs, and the function that it calls finds out by itself
whether its result is up to date; see docs/caching.md.
"""
