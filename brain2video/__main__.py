"""Run the command line as ``python -m brain2video``."""

from brain2video.cli.app import main

if __name__ == "__main__":
    main()
