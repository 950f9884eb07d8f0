"""`python -m salticid`, and what torchrun starts."""

import sys

from salticid.cli import main

if __name__ == "__main__":
    sys.exit(main())
