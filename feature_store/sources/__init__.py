"""Sources of recordings: one file or package a dataset or format; `settings` lists them."""
