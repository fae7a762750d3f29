"""`python -m sdcpp_py` is the command `sdcpp`."""

import sys

from sdcpp_py.cli import main

if __name__ == "__main__":
    sys.exit(main())
