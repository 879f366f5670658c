"""A study's config and its work as plain functions, without ZenML: a notebook imports these.

>>> from studies.study import load_study                    # doctest: +SKIP
>>> from studies.stores.responses import ingest             # doctest: +SKIP
>>> ingest(load_study("configs/demo.yaml"), "sub-01")       # doctest: +SKIP
"""
