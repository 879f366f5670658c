"""Brain2Video: fMRI of people watching videos, turned back into videos."""
