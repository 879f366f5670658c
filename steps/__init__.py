"""One ZenML step a file: it hands a study function its inputs and reports what came out.

Steps publish outside ZenML's artifact store, where ZenML cannot see that a result is gone, and the key of ZenML's cache
holds a step's own source alone. So each takes `made_from`, the digest of everything that its result would be made from
now (inputs, settings, and all code of this project that it reaches), and the pipelines let ZenML answer from its cache
only where that very result stands, every byte of it; see `studies.status.standing`.
"""
