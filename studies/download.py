"""A published dataset from its bucket: what of it is wanted, what that comes to, and bringing it."""

from pathlib import Path

from feature_store.bucket import Bucket
from feature_store.download import Bill, Download, find
from feature_store.sources.download import BUCKET, PREFIX, REGION, Request


def prepare(
    request: Request, folder: Path, *, jobs: int = 8, check: bool = False, endpoint: str | None = None
) -> tuple[Download, Bill]:
    """List what is wanted of BOLD Moments and return what brings it, with the bill; nothing is written yet.

    Parameters
    ----------
    request : Request
    folder : Path
        Where the dataset is to lie: a study's `source.path`.
    jobs : int
        How many files are fetched at once.
    check : bool
        Whether files that are there are hashed as well.
    endpoint : str, optional
        URL of another service that speaks S3.

    Raises
    ------
    DownloadError
        The bucket cannot be listed or lacks what is wanted.
    """
    bucket = Bucket(BUCKET, PREFIX, region=REGION, endpoint=endpoint, connections=jobs)
    download = Download(bucket, folder, jobs=jobs)
    return download, download.bill(find(bucket, request.wanted(), jobs=jobs), check=check)
