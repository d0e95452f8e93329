"""`python -m disca.cli`, for launchers that start modules."""

from disca.cli import main

raise SystemExit(main())
