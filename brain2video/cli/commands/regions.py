"""The command around regions: from which of them a study's targets can be decoded."""

from brain2video.cli.options import DEMO, Config, Set


def regions(config: Config = DEMO, overrides: Set = None) -> None:
    """Decode the targets from each ROI alone and without it, and draw from where in the brain they come."""
    from brain2video.cli.launch import launch
    from brain2video.cli.tables.regions import show_regions
    from studies.study import load_study

    study = load_study(config, overrides or [])
    launch("regions", config, overrides)
    show_regions(study)
