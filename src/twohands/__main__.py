"""`python -m twohands` is `twohands`."""

import sys

from twohands.cli import main

sys.exit(main())
