"""A new user's ways through the project, scripted: each begins with a clone and has only what the docs say."""
