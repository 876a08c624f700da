"""Run the command line: `python -m disco_trace`."""

import sys

from disco_trace.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
