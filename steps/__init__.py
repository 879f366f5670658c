"""One ZenML step a file: it hands a study function its inputs and reports what came out.

Steps that publish outside ZenML's artifact store are never cached by ZenML, which cannot see that a store was deleted
behind its back; the study functions compare fingerprints instead and return at once where nothing changed.
"""
